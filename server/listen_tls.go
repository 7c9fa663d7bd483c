package main

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/berth-proxy/berth/server/certs"
	"github.com/berth-proxy/berth/server/config"
)

// useCertificates reads what TLS needs, if clients may speak it.
func (srv *server) useCertificates(cfg *config.Config) (undo func(), err error) {
	wanted, _ := cfg.Doors() // what is wrong with them, the listeners say
	speaks := slices.ContainsFunc(wanted, config.Door.SpeaksTLS) ||
		slices.ContainsFunc(*srv.doors.Load(), func(d door) bool { return d.passed && d.way.terms.Load().TLS })
	if !speaks {
		return func() {}, nil
	}
	if err := cfg.CheckCertUsers(); err != nil {
		return nil, err
	}
	return srv.certs.Use(cfg.TLSFiles())
}

// errNoTLS is the word of Redis to CONFIG SET.
const errNoTLS = "Unable to update TLS configuration. Check server logs."

// tryDoors has clients let in as a configuration says that is to be, or leaves all as it was.
func (srv *server) tryDoors(next *config.Config, name string) error {
	undo, err := srv.useCertificates(next)
	if err != nil {
		slog.Warn("TLS as before", "why", err)
		return errors.New(errNoTLS + " " + err.Error())
	}
	if err := srv.tryRebind(next, name); err != nil {
		undo()
		return err
	}
	return nil
}

// renewCertificates reads certificates and keys again when a file has changed, or in any case.
func (srv *server) renewCertificates(must bool) {
	for _, k := range []*certs.Keeper{srv.certs, srv.nodeCerts} {
		switch renewed, err := k.Renew(must); {
		case err != nil:
			slog.Warn("certificates not renewed", "why", err)
		case renewed:
			slog.Info("certificates renewed")
		}
	}
}

// certificatesEvery is how often berth looks whether a file has changed.
const certificatesEvery = 2 * time.Second

// watchCertificates renews the certificates until stop is closed.
func (srv *server) watchCertificates(stop <-chan struct{}) {
	ticker := time.NewTicker(certificatesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			srv.renewCertificates(false)
		}
	}
}
