package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestWordReaderReadsTheWordsOfTheRequest(t *testing.T) {
	for _, want := range [][]string{{"PING"}, {"GET", ""}, {"MSET", "a", "\r\n$1\r\n", "", strings.Repeat("x", 100_000), "b"}} {
		var request []any
		for _, w := range want {
			request = append(request, w)
		}
		var got []string
		for b := newWordReader(redistest.Command(request...)); b.left(); {
			got = append(got, string(b.next()))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%.100q, want %.100q", got, want)
		}
	}
}
