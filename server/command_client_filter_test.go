package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// The words are right in some versions and wrong in others: BERTH_TEST_SERVER names the version.
func TestClientFiltersAreThoseOfTheNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	asRedis(t, startBerth(t, node.Addr()), node, filterLines...)
}

var filterLines = strings.Split(strings.TrimSpace(`
client list id 999999 user default
client list id 999999 999998
client list id x
client list id 0
client list id 999999 x
client list id 999999 user
client list id 999999 nothing x
client list user nobody
client list user default id 999999
client list user default user nobody
client list type primary
client list not-type normal
client list type pubsub type pubsub
client list name nobody
client list name
client list name nobody id
client list idle 100000
client list idle 0
client list idle x
client list lib-name nobody
client list lib-ver nobody
client list flags P
client list flags PZ
client list not-flags Z
client list not-flags N
client list addr 1.2.3.4:5
client list laddr 1.2.3.4:5
client list skipme perhaps
client list skipme yes id 999999
client list maxage 100000
client list maxage 0
client list db 5
client list db 16
client list db x
client list not-db -1
client list not-db x
client list capa x
client list not-capa x
client list ip 1.2.3.4
client list not-ip 127.0.0.1
client list not-id x
client list not-id 0
client list not-id 1 2 type pubsub
client list not-idle 1
client list not-nothing 1
client list db 16 user nobody
client list user nobody db 16
client list type nothing user nobody
client list type pubsub flags P name nobody db 3 ip 1.2.3.4
client kill id 999999 999998
client kill id 999999 id 999998
client kill id x
client kill id 999999 x
client kill user nobody
client kill user nobody type nothing
client kill type nothing user nobody
client kill not-user default
client kill type primary
client kill type not-primary
client kill name nobody
client kill idle x
client kill flags Z
client kill maxage 100000
client kill maxage 0
client kill maxage x
client kill maxage 99999999999999999999
client kill db 16
client kill capa x
client kill ip 1.2.3.4
client kill not-flags N`), "\n")

// answersOf is a product that answers some questions more.
func answersOf(product map[string]string, more map[string]string) map[string]string {
	all := maps.Clone(product)
	maps.Copy(all, more)
	return all
}

func TestFiltersOfValkeyAdmitTheClientsTheyName(t *testing.T) {
	parallel(t)
	b := startBerth(t, scriptedProduct(t, answersOf(valkey9, map[string]string{
		"CLIENT LIST user default TYPE berth": allRight, "CLIENT LIST db 0 TYPE berth": allRight, "CLIENT LIST not-db 0 TYPE berth": allRight,
		"CLIENT LIST user nobody TYPE berth": "-ERR No such user 'nobody'\r\n",
		"CLIENT LIST db 16 TYPE berth":       "-ERR DB number should be between 0 and 15\r\n",
	})), "--loops", "2")
	asks, named, queues := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	for c, name := range map[*redistest.Conn]string{asks: "asks", named: "named", queues: "queues"} {
		c.Do("CLIENT", "SETNAME", name)
	}
	named.Do("CLIENT", "SETINFO", "lib-name", "library")
	named.Do("CLIENT", "SETINFO", "lib-ver", "1.2")
	named.Do("CLIENT", "NO-EVICT", "on")
	queues.Do("MULTI")
	for line, want := range map[string]string{
		"":                          "asks named queues",
		"skipme yes":                "named queues",
		"name named":                "named",
		"not-name named":            "asks queues",
		"name named name queues":    "queues",
		"lib-name library":          "named",
		"not-lib-name library":      "asks queues",
		"lib-ver 1.2 lib-name x":    "",
		"flags x":                   "queues",
		"flags e":                   "named",
		"not-flags N":               "named queues",
		"flags N":                   "asks",
		"type primary":              "",
		"not-type primary":          "asks named queues",
		"not-type normal":           "",
		"ip 127.0.0.1 user default": "asks named queues",
		"not-ip 127.0.0.1":          "",
		"db 0 not-name asks":        "named queues",
		"not-db 0":                  "",
		"idle 1000":                 "",
		"maxage 1000":               "",
		"not-capa r flags N":        "asks",
		"user nobody":               "ERR No such user 'nobody'",
		"user nobody flags Z":       "ERR No such user 'nobody'",
		"flags Z user nobody":       "ERR Unknown flags found in the provided filter: Z",
		"not-flags Z":               "ERR Unknown flags found in the NOT-FLAGS filter: Z",
		"db 16":                     "ERR DB number should be between 0 and 15",
		"name named id":             "",
	} {
		if got := namesListed(asks, line); got != want {
			t.Errorf("CLIENT LIST %s: %q, want %q", line, got, want)
		}
	}
	id := named.Do("CLIENT", "ID")
	if got := asks.Do("CLIENT", "KILL", "ID", id, asks.Do("CLIENT", "ID"), "NOT-NAME", "named", "SKIPME", "yes"); got != int64(0) {
		t.Errorf("a client that no filter names is killed: %v", got)
	}
	if got := asks.Do("CLIENT", "KILL", "ID", 999999, id, "LIB-VER", "1.2"); got != int64(1) {
		t.Errorf("CLIENT KILL by two filters: %v", got)
	}
	if got := namesListed(asks, ""); got != "asks queues" {
		t.Errorf("%s are left", got)
	}
}

// namesListed is the names of the clients that CLIENT LIST shows, or its error.
func namesListed(c *redistest.Conn, options string) string {
	words := []any{"CLIENT", "LIST"}
	for option := range strings.FieldsSeq(options) {
		words = append(words, option)
	}
	reply := c.Do(words...)
	if refusal, ok := reply.(redistest.Error); ok {
		return string(refusal)
	}
	var names []string
	for line := range strings.Lines(reply.(string)) {
		names = append(names, field(line, "name"))
	}
	return strings.Join(names, " ")
}
