package config

import (
	"fmt"
	"slices"
)

// Reloaded is what became of a Reload.
type Reloaded struct {
	Changed []string // options that have another value now
	Restart []string // options that have another one in the file, and cannot change while berth runs
	Wrong   []string // mistakes, with where they are
}

// Reload reads again what berth was started with: the file, which may say something else now, under the same
// environment and flags. What the file says no more has its default; what CONFIG SET has changed, and the
// file does not say, is what it was at the start.
//
// A mistake leaves all as it was: an option whose name is misspelt would get its default. Otherwise all options
// change together if they can, or else each that can by itself.
func (s *Settings) Reload() (r Reloaded) {
	l := s.again()
	for _, m := range l.mistakes {
		r.Wrong = append(r.Wrong, m.Error())
	}
	if len(r.Wrong) > 0 { // an option whose name is misspelt would get its default
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var wanted []*option
	for _, name := range changedOptions(s.now.Load(), l.config) {
		switch o := findOption(name); {
		case o.hot:
			wanted = append(wanted, o)
		default:
			r.Restart = append(r.Restart, name)
		}
	}
	if len(wanted) > 0 && s.adopt(l, wanted) == nil {
		r.changed(wanted)
		return r
	}
	for _, o := range wanted {
		if err := s.adopt(l, []*option{o}); err != nil {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s: %s: %v", l.source(o.name), o.name, err))
		} else {
			r.changed([]*option{o})
		}
	}
	return r
}

func (r *Reloaded) changed(all []*option) {
	for _, o := range all {
		r.Changed = append(r.Changed, o.name)
	}
	slices.Sort(r.Changed)
}

// adopt gives options the values that a loader has read, all of them or none. The caller holds mu.
func (s *Settings) adopt(l *loader, all []*option) error {
	next := *s.now.Load()
	var changes []change
	for _, o := range all {
		text := o.value.text(l.config)
		if err := o.setText(&next, text); err != nil {
			return err
		}
		if o.name == passwordFile {
			next.FilePassword = l.config.FilePassword
		}
		changes = append(changes, change{o.name, o, text})
	}
	return s.change(&next, changes)
}
