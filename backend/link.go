package backend

type LinkState uint8

// A pipe's life. Requests queue in the journal while it is dialled; only pipeUp writes them.
//
//	pipeDown ──Send──▶ pipeDialing ──connected──▶ pipeShaking ──+OK──▶ pipeUp
//	   ▲                    │                         │                  │
//	   └────────────────────┴──────── lost ───────────┴──────────────────┘
const (
	Down    LinkState = iota // no connection; the next Send dials, unless it is too early
	Dialing                  // net.Dial runs in a goroutine
	Shaking                  // HELLO, AUTH, SELECT are sent
	Up
)
