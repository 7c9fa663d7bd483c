package main

import (
	"testing"
)

// A script chooses what stands in a number: the reply must end nobody's connection.
func TestRepliesThatAreNoValueEndNoConnection(t *testing.T) {
	for name, backend := range map[string]string{"standalone": sharedNode(t).Addr(), "cluster": clusterURL(sharedCluster(t))} {
		t.Run(name, func(t *testing.T) {
			b := startBerth(t, backend, "--loops", "1")
			attacker := dial(t, b.Addr())
			attacker.Do("HELLO", 3)
			watcher := startBystander(t, b.Addr())
			lost := b.figures(t).PipeStats.Lost
			for script, want := range map[string]string{
				"return {big_number='abc'}":                        "(abc\r\n",
				"return {big_number=''}":                           "(\r\n",
				"return {big_number='1.5\\r\\n+OK'}":               "(1.5  +OK\r\n",
				"return {double=1/0}":                              ",inf\r\n",
				"return {ok='a\\rb\\nc'}":                          "+a b c\r\n",
				"return {verbatim_string={format='x',string='y'}}": "",
				"return {map={a={big_number='x'}}}":                "%1\r\n$1\r\na\r\n(x\r\n",
			} {
				for range sized(20, 1000) {
					if got := attacker.DoRaw("EVAL", script, 0); want != "" && got != want {
						t.Errorf("%s: %q, want %q", script, got, want)
						break
					}
				}
			}
			watcher.end()
			if now := b.figures(t).PipeStats.Lost; now != lost {
				t.Errorf("%d pipes were lost", now-lost)
			}
		})
	}
}
