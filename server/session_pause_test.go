package main

import "testing"

func TestAPauseMovesAlongItsDrawingOnly(t *testing.T) {
	legal := map[[2]pause]bool{
		{pauseDraining, pauseAssembling}: true,
		{pauseAssembling, pauseDraining}: true,
	}
	for p := pauseNone; p <= pauseAssembling; p++ {
		legal[[2]pause{p, pauseNone}] = true
		if p != pauseNone && p != pauseAssembling {
			legal[[2]pause{pauseNone, p}] = true
		}
	}
	for from := pauseNone; from <= pauseAssembling; from++ {
		for to := pauseNone; to <= pauseAssembling; to++ {
			moved := func() (ok bool) {
				defer func() { ok = recover() == nil }()
				p := from
				p.move(to)
				return p == to
			}()
			if moved != legal[[2]pause{from, to}] {
				t.Errorf("from %d to %d: moved %v", from, to, moved)
			}
		}
	}
}

func TestASessionResumesForTheReasonOfItsPauseOnly(t *testing.T) {
	s := &session{loop: &loop{}}
	s.pauseFor(pauseLeasing)
	s.resumeFrom(pauseSubscribing)
	if s.pause != pauseLeasing || s.isReady {
		t.Fatalf("pause %d, ready %v", s.pause, s.isReady)
	}
	s.resumeFrom(pauseLeasing)
	if s.pause != pauseNone || !s.isReady || len(s.loop.ready) != 1 {
		t.Fatalf("pause %d, ready %v", s.pause, s.isReady)
	}
}

func TestACommandThatEXECRunsPausesNothingAnew(t *testing.T) {
	s := &session{loop: &loop{}}
	s.pauseFor(pauseDraining)
	s.beginAssembly()
	if taken := s.hold(pauseLeasing); taken || s.pause != pauseAssembling {
		t.Fatalf("taken %v, pause %d", taken, s.pause)
	}
	s.resumeFrom(pauseLeasing)
	if s.pause != pauseAssembling || !s.isReady {
		t.Fatalf("pause %d, ready %v", s.pause, s.isReady)
	}
	s.endAssembly()
	if s.pause != pauseDraining {
		t.Fatalf("pause %d", s.pause)
	}
}
