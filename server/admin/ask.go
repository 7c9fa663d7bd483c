package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/berth-proxy/berth/server/config"
)

// askPatience is how long the endpoint has to answer.
const askPatience = 5 * time.Second

// AskReady asks the endpoint of a berth on this machine for /readyz. bind and port are its admin-bind
// and admin-port. nil: it is ready.
func AskReady(bind []string, port int) error {
	if port == 0 {
		return errors.New("admin-port is 0: there is nobody to ask")
	}
	client := http.Client{Timeout: askPatience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialFirst(ctx, bind, port) },
	}}
	defer client.CloseIdleConnections()
	answer, err := client.Get("http://localhost/readyz")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	why, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	return fmt.Errorf("not ready: %s", strings.TrimSpace(string(why)))
}

// dialFirst connects to the first listener that there is. The wildcard is this machine.
func dialFirst(ctx context.Context, bind []string, port int) (conn net.Conn, err error) {
	err = errors.New("admin-bind is empty: there is nobody to ask")
	for _, word := range bind {
		network, addr, _ := config.BindAddress(word, port)
		if conn, err = new(net.Dialer).DialContext(ctx, network, addr); err == nil {
			return conn, nil
		}
	}
	return nil, err
}
