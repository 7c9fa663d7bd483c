package telemetry

import (
	"testing"
	"time"

	"github.com/berth-proxy/berth/router"
)

func TestViewersShareOneAnswer(t *testing.T) {
	looks := 0
	page := &SharedReport{look: func(int) *Snapshot {
		looks++
		return &Snapshot{Topology: router.Even(nil)}
	}}
	page.JSON()
	page.made = time.Now().Add(time.Hour) // however slow this machine is
	if page.JSON(); looks != 1 {
		t.Error("the loops were asked anew")
	}
	page.made = time.Time{}
	if page.JSON(); looks != 2 {
		t.Error("an old answer was given")
	}
}
