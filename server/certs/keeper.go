package certs

import (
	"crypto/tls"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Source makes a configuration of files.
type Source interface {
	Load() (*tls.Config, error)
	paths() []string
}

// Keeper has what the files said when they were read last.
type Keeper struct {
	now  atomic.Pointer[tls.Config]
	base *tls.Config // what handshakes begin with: one for all, since it makes the keys of tickets

	mu     sync.Mutex // guards what follows; held while files are read
	source Source
	times  map[string]stamp // of each file, when it was read
}

// NewKeeper returns one that has read nothing.
func NewKeeper() *Keeper {
	k := &Keeper{}
	config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.now.Load(), nil }}
	k.base = config
	return k
}

// stamp tells one state of a file from another.
type stamp struct {
	at   time.Time
	size int64
}

// Use reads files, and keeps what they say. After an error all is as before. undo makes it so later.
func (k *Keeper) Use(from Source) (undo func(), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	source, times, config := k.source, k.times, k.now.Load()
	undo = func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.source, k.times = source, times
		k.now.Store(config)
	}
	return undo, k.use(from)
}

func (k *Keeper) use(from Source) error {
	times := stamps(from) // before they are read: what changes meanwhile is read again
	config, err := from.Load()
	if err != nil {
		return err
	}
	k.source, k.times = from, times
	k.now.Store(config)
	return nil
}

// Renew reads the files again if one of them has changed, or in any case if must is true. It reports
// whether it did. After an error all is as before, until a file changes again.
func (k *Keeper) Renew(must bool) (renewed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now.Load() == nil {
		return false, nil
	}
	times := stamps(k.source)
	if !must && sameStamps(times, k.times) {
		return false, nil
	}
	k.times = times
	return true, k.use(k.source)
}

// Server returns a configuration whose handshakes have what the files said last. Sessions of the time
// before are taken up again.
func (k *Keeper) Server() *tls.Config { return k.base }

// Now returns what the files said last; nil: none were read.
func (k *Keeper) Now() *tls.Config { return k.now.Load() }

func stamps(of Source) map[string]stamp {
	all := map[string]stamp{}
	for _, path := range of.paths() {
		if info, err := os.Stat(path); path != "" && err == nil {
			all[path] = stamp{info.ModTime(), info.Size()}
		}
	}
	return all
}

func sameStamps(a, b map[string]stamp) bool {
	if len(a) != len(b) {
		return false
	}
	for path, s := range a {
		if other, ok := b[path]; !ok || !other.at.Equal(s.at) || other.size != s.size {
			return false
		}
	}
	return true
}
