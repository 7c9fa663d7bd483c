package telemetry

import (
	"slices"
	"testing"
	"time"
)

func TestRatesAreByTheSecondAndOfAllLoops(t *testing.T) {
	const began = 1_000_000
	at := func(s float64) int64 { return began*int64(time.Second) + int64(s*float64(time.Second)) }
	var a, b Rates
	var st Counters
	do := func(ok, failed int64) { st.unknown.ok, st.unknown.failed = st.unknown.ok+ok, st.unknown.failed+failed }
	for _, tick := range []struct {
		at         float64
		ok, failed int64
	}{{0.1, 3, 1}, {0.9, 1, 0}, {2.0, 5, 2}, {3.5, 100, 100}} {
		do(tick.ok, tick.failed)
		a.Tick(at(tick.at), &st)
	}
	st = Counters{} // as CONFIG RESETSTAT does
	do(7, 0)
	b.last = commandStats{ok: 50}
	b.Tick(at(1.5), &st)

	series := sumRates([]Rates{a, b}, time.Unix(began, 0), time.Unix(0, at(3.6)))
	if series.Until != began+3 || !slices.Equal(series.Requests, []int64{5, 7, 7}) || !slices.Equal(series.Errors, []int64{1, 0, 2}) {
		t.Errorf("got %+v", series)
	}
	if got := lastSeconds(series.Requests, 2); got != 7 {
		t.Errorf("the mean of 7 and 7 is %v", got)
	}
	if got := lastSeconds(nil, 10); got != 0 {
		t.Errorf("the mean of nothing is %v", got)
	}
}

func TestRatesForgetWhatIsTooOld(t *testing.T) {
	var r Rates
	var st Counters
	for unix := int64(1); unix <= 2*rateSeconds; unix++ {
		st.unknown.ok += unix
		r.Tick(unix*int64(time.Second), &st)
	}
	now := int64(2 * rateSeconds)
	series := sumRates([]Rates{r}, time.Unix(0, 0), time.Unix(now, 0))
	if len(series.Requests) != rateSeconds-1 || series.Requests[0] != now-rateSeconds+1 || series.Requests[rateSeconds-2] != now-1 {
		t.Errorf("%d numbers, %v … %v", len(series.Requests), series.Requests[0], series.Requests[len(series.Requests)-1])
	}
	// A loop that has slept has nothing to say of the seconds since.
	series = sumRates([]Rates{r}, time.Unix(0, 0), time.Unix(now+rateSeconds/2, 0))
	if series.Requests[0] == 0 || series.Requests[rateSeconds-2] != 0 {
		t.Errorf("after a sleep: %v", series.Requests)
	}
}
