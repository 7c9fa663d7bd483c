package nodes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// inquiry asks one node what it is and what it knows of the others. Each round makes one or more.
type inquiry struct {
	*Control
	target Target
	link   string // see chain.go
	found  finding
}

// finding is what one node has answered.
type finding struct {
	info     Info
	topology *router.Topology
	stateOK  bool // a cluster node says cluster_state:ok; true for other nodes
	blind    bool // berth may not ask the node: topology is a guess
}

// isReplica reports whether the node is a single one that follows another.
func (f *finding) isReplica() bool { return f.info.Kind == Standalone && f.info.Role == "slave" }

// Info is what a node says about itself and the nodes that it belongs to.
type Info struct {
	Kind         Kind
	Product      string // "redis", "valkey"; "" if berth may not ask
	Release      string // the product's own version
	Version      string // the compatible Redis version (redis_version), "7.0.15"; "" if berth may not ask
	Mode         string // redis_mode, Valkey's server_mode: "standalone", "cluster"
	Role         string // of the node that was asked: "master", "slave"
	AuthRequired bool   // a client that gave no password got NOAUTH; see Nodes.AuthRequired
	MaxClients   int    // the node's maxclients; 0: it does not say
	Commands     []byte // the node's raw reply to COMMAND in RESP2; nil: there is none

	Server []Field       // the node's section "Server" of INFO; nil: berth may not ask
	Hello  []codec.Value // the names and values of the node's reply to HELLO; nil: the node has no HELLO
}

// Field is one "name:value" line of INFO.
type Field struct{ Name, Value string }

// Kind says which nodes berth has.
type Kind string

const (
	Standalone Kind = "standalone" // one node that owns every slot
	Cluster    Kind = "cluster"    // a Redis Cluster
	Embedded   Kind = "embedded"   // the backend inside berth, for trying berth out
)

// ConfigError is a failure that no later attempt can mend: a setting has to be changed.
type ConfigError struct {
	Why  string
	Loop bool // a node that was taken before must be let go of: see chain.go
}

func (e *ConfigError) Error() string { return e.Why }

// errNoSlots is the error of a cluster node that knows no slot with an owner.
var errNoSlots = errors.New("the cluster serves no slot")

// inquire asks the node at addr what it is. known is what was known before: see complete.
func inquire(ctx context.Context, target Target, addr string, settings *Settings, known *Info) (finding, error) {
	c, err := DialControl(ctx, addr, settings)
	if err != nil {
		return finding{}, err
	}
	defer c.Close()
	q := &inquiry{Control: c, target: target, link: settings.link}
	if err := q.introduce(); err != nil {
		return finding{}, err
	}
	err = q.inform()
	if err == nil && q.found.info.Kind == Cluster {
		err = q.askTopology()
	}
	switch {
	case refused(err, "NOAUTH", "NOPERM"):
		err = q.guess(err)
	case err == nil:
		err = q.complete(known)
	}
	return q.found, err
}

// introduce finds out whether the node wants a password, and authenticates.
func (q *inquiry) introduce() error {
	_, err := q.Do("PING")
	switch {
	case refused(err, "NOAUTH"):
		q.found.info.AuthRequired = true
	case isUnreached(err):
		return fmt.Errorf("%s is a berth that has reached no node itself", q.addr)
	case err != nil && !letsIn(err):
		return err
	}
	if err := q.Auth(q.target); err != nil {
		reply, ok := errors.AsType[*ReplyError](err)
		if !ok {
			return err
		}
		return &ConfigError{Why: fmt.Sprintf("%s refuses the user and password that berth was given: %s", q.addr, reply.Text)}
	}
	return nil
}

// NotReached begins the words in which a berth says that it has reached no node since it began.
const NotReached = "no node was reached yet"

// isUnreached reports whether an error is that of such a berth. Its reason would stand in our own, and
// where two berths ask each other, in its own again.
func isUnreached(err error) bool {
	reply, ok := errors.AsType[*ReplyError](err)
	return ok && strings.HasPrefix(reply.Text, "TRYAGAIN berth: "+NotReached)
}

// letsIn reports whether an error that answers PING comes from a node that is up and has let berth
// in.
func letsIn(err error) bool {
	reply, ok := errors.AsType[*ReplyError](err)
	return ok && backend.LetsIn(reply.Text)
}

// inform finds out what the node is.
func (q *inquiry) inform() error {
	info := &q.found.info
	fields, err := q.describe(info)
	if err != nil {
		return err
	}
	if err := q.checkChain(); err != nil {
		return err
	}
	info.Version = word(fields["redis_version"])
	info.Mode = word(cmp.Or(fields["redis_mode"], fields["server_mode"]))
	info.Role = word(fields["role"])
	info.MaxClients, _ = strconv.Atoi(fields["maxclients"]) // absent before 6.0: 0
	info.Product, info.Release = "redis", info.Version
	if name := word(fields["server_name"]); name != "" && fields[name+"_version"] != "" {
		info.Product, info.Release = name, word(fields[name+"_version"])
	}
	q.found.stateOK = true
	switch {
	case info.Mode == "sentinel":
		return &ConfigError{Why: fmt.Sprintf("%s is a Sentinel: write sentinel://%s/ and the name under which "+
			"it watches the primary", q.addr, q.addr)}
	case info.Mode == "cluster" || fields["cluster_enabled"] == "1":
		info.Kind = Cluster
		return q.checkCluster()
	}
	info.Kind = Standalone
	q.found.topology = router.Single(q.addr, ReplicasOf(fields)...)
	return q.checkStandalone()
}

// maxReplicas is how many replicas of a single node are known.
const maxReplicas = 64

// ReplicasOf returns the replicas of a single primary that are connected, by the lines of its INFO that read
// "slave0:ip=10.0.0.2,port=6379,state=online,…".
func ReplicasOf(info map[string]string) (addrs []string) {
	for i := range maxReplicas {
		line, ok := info["slave"+strconv.Itoa(i)]
		if !ok {
			break
		}
		of := map[string]string{}
		for pair := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(pair, "=")
			of[name] = value
		}
		port, _ := strconv.ParseInt(of["port"], 10, 64)
		if addr := router.Addr(of["ip"], port); addr != "" && of["state"] == "online" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// maxWord is how long a name or a version may be that berth repeats to clients.
const maxWord = 64

// word returns what a node says in one word, "" if it is no word.
func word(text string) string {
	odd := func(c rune) bool { return c <= ' ' || c >= 0x7f }
	if len(text) > maxWord || strings.ContainsFunc(text, odd) {
		return ""
	}
	return text
}

// described are the sections of INFO that say what a node is. berth does not ask for all of INFO:
// errorstats has the first words of errors, of which a client's script can make any number.
var described = []string{"server", "clients", "replication", "cluster"}

// askSections returns the fields of sections of INFO. It asks for all together, to be in the node's
// SLOWLOG once, and for one after the other where INFO takes one word, as before Redis 7.0.
func (q *inquiry) askSections(sections []string) (map[string]string, error) {
	v, err := q.Do(append([]string{"INFO"}, sections...)...)
	if err == nil || len(sections) == 1 || !refused(err, "ERR") {
		return infoFields(v.Text()), err
	}
	fields := map[string]string{}
	for _, section := range sections {
		some, err := q.askSections([]string{section})
		if err != nil {
			return nil, err
		}
		maps.Copy(fields, some)
	}
	return fields, nil
}

// describe returns fields of INFO, and keeps in info what clients are told in the node's words. If
// berth's user may not run INFO, it makes the fields from HELLO, which every user may run since
// Redis 6.0.
func (q *inquiry) describe(info *Info) (map[string]string, error) {
	var fields map[string]string
	v, err := q.Do("INFO", described[0])
	if err == nil {
		info.Server = sectionOf(v.Text(), "Server")
		if fields, err = q.askSections(described[1:]); err == nil {
			maps.Copy(fields, infoFields(v.Text()))
		}
	}
	hello, errHello := q.Do("HELLO", "2")
	info.Hello = hello.Elems
	if err == nil {
		return fields, transport(errHello)
	}
	if !refused(err, "NOPERM") {
		return nil, err
	}
	if errHello != nil {
		return nil, err
	}
	field := func(name string) string {
		v, _ := hello.Lookup(name)
		return v.Text()
	}
	name, version := field("server"), field("version")
	compatible := version
	if name == "valkey" { // HELLO has its own version alone; all of its versions say this in INFO
		compatible = "7.2.4"
	}
	return map[string]string{
		"server_name": name, name + "_version": version, "redis_version": compatible, "redis_mode": field("mode"),
		// HELLO says "replica" where INFO says "slave".
		"role": strings.Replace(field("role"), "replica", "slave", 1),
	}, nil
}

// checkCluster refuses a configuration that does not fit a Cluster.
func (q *inquiry) checkCluster() error {
	return q.checkDB("is a Redis Cluster that has no database")
}

// checkStandalone refuses a configuration that does not fit a single node, and a replica that
// Sentinels call the primary.
func (q *inquiry) checkStandalone() error {
	switch {
	case q.target.Master != "" && q.found.info.Role == "slave":
		return fmt.Errorf("%s, which Sentinels take for the primary, is a replica", q.addr)
	case q.target.Master == "" && len(q.target.Addrs) > 1:
		return &ConfigError{Why: fmt.Sprintf("%s is no cluster node; several addresses are taken for seeds of one Redis "+
			"Cluster: give berth one address", q.addr)}
	}
	return q.checkDB("has no database")
}

// checkDB refuses a database that the node does not have; lacks says so after its address.
func (q *inquiry) checkDB(lacks string) error {
	if q.target.DB == 0 {
		return nil
	}
	_, err := q.Do("SELECT", strconv.Itoa(q.target.DB))
	switch {
	case refused(err, "ERR"):
		return &ConfigError{Why: fmt.Sprintf("%s %s %d", q.addr, lacks, q.target.DB)}
	case refused(err, "NOPERM"): // clients may be other users
		return nil
	}
	return err
}

// askTopology asks which node owns which slot, by CLUSTER SLOTS, and which other nodes there are,
// by CLUSTER NODES. CLUSTER SHARDS says both, but from Redis 7.2 to 8.0 it leaves out the slots of
// a shard whose primary was replaced, for ever if it is dead: it is for a user who may not ask for
// the others.
func (q *inquiry) askTopology() error {
	state, err := q.Do("CLUSTER", "INFO")
	if err != nil && !refused(err, "NOPERM") {
		return err
	}
	q.found.stateOK = err != nil || infoFields(state.Text())["cluster_state"] == "ok"
	shards := false
	raw, err := q.DoRaw("CLUSTER", "SLOTS")
	if refused(err, "NOPERM") {
		shards = true
		raw, err = q.DoRaw("CLUSTER", "SHARDS")
	}
	if err != nil {
		return err
	}
	var topology *router.Topology
	if shards {
		topology, err = router.ParseClusterShards(raw, seedHost(q.addr), q.target.TLS)
	} else { // whose ports are those of the protocol that is spoken
		topology, err = router.ParseClusterSlots(raw, seedHost(q.addr))
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", q.addr, err)
	case topology.Served() == 0:
		return fmt.Errorf("%s: %w", q.addr, errNoSlots)
	}
	q.found.topology = topology
	if !shards {
		return q.askNodes()
	}
	return nil
}

// askNodes asks for the nodes without slots, to which an ASK may lead: CLUSTER SLOTS does not name
// them. Without the permission berth knows the owners of slots alone.
func (q *inquiry) askNodes() error {
	raw, err := q.DoRaw("CLUSTER", "NODES")
	switch {
	case refused(err, "ERR", "NOPERM"):
		return nil
	case err != nil:
		return err
	}
	v, err := codec.ParseValue(raw)
	if err != nil {
		return q.fail("CLUSTER", err)
	}
	addrs, err := router.ParseClusterNodes(v.Text(), seedHost(q.addr))
	if err != nil {
		return fmt.Errorf("%s: %w", q.addr, err)
	}
	q.found.topology = q.found.topology.With(addrs)
	return nil
}

// complete adds the reply to COMMAND, which is asked for again when the server is another one, or has
// more or fewer commands: somebody has loaded a module.
func (q *inquiry) complete(known *Info) error {
	info := &q.found.info
	if known != nil && known.Commands != nil && known.sameServer(info) {
		count, err := q.Do("COMMAND", "COUNT")
		if failed := transport(err); failed != nil {
			return failed
		}
		if err != nil || bytes.HasPrefix(known.Commands, fmt.Appendf(nil, "*%d\r\n", count.Int)) {
			info.Commands = known.Commands
			return nil
		}
	}
	raw, err := q.DoRaw("COMMAND")
	info.Commands = raw
	return transport(err)
}

// sameServer reports whether other is the same server, as far as its commands go. The nodes of a
// Cluster are of one version; a single node that has begun anew may have other modules.
func (i *Info) sameServer(other *Info) bool {
	return i.Product == other.Product && i.Release == other.Release &&
		(other.Kind == Cluster || i.serverField("run_id") == other.serverField("run_id"))
}

// serverField returns a field of the node's section "Server", "" if there is none.
func (i *Info) serverField(name string) string {
	for _, f := range i.Server {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// guess takes a node that refuses berth's questions, for the reason why, for a standalone one,
// where clients give their own passwords. If it is a cluster node after all, its MOVED errors go to
// clients: berth may not ask which nodes are to be believed. With several addresses, or a node
// known to be of a Cluster, there is no guess.
func (q *inquiry) guess(why error) error {
	if q.target.Master == "" && len(q.target.Addrs) > 1 || q.found.info.Kind == Cluster {
		return &ConfigError{Why: fmt.Sprintf("%v; berth must see the cluster: give it a user that may run PING, INFO, COMMAND, "+
			"CLUSTER INFO, CLUSTER SHARDS, CLUSTER SLOTS and CLUSTER NODES, in the backend's URL, a password file or the environment", why)}
	}
	q.found.info.Kind = Standalone
	q.found.topology = router.Single(q.addr)
	q.found.stateOK = true
	q.found.blind = true
	return nil
}

// refused reports whether err is an error reply with one of these prefixes.
func refused(err error, prefixes ...string) bool {
	reply, ok := errors.AsType[*ReplyError](err)
	if !ok {
		return false
	}
	first, _, _ := strings.Cut(reply.Text, " ")
	for _, p := range prefixes {
		if first == p {
			return true
		}
	}
	return false
}

// seedHost returns the host that an empty host means in a reply of the node at addr.
func seedHost(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil { // a unix socket
		return "127.0.0.1"
	}
	return host
}

// transport returns err, unless it is an error reply.
func transport(err error) error {
	if _, ok := errors.AsType[*ReplyError](err); ok {
		return nil
	}
	return err
}

// sectionOf returns the lines of one section of INFO, in the node's order.
func sectionOf(text, title string) (fields []Field) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "#") {
			inside = line == "# "+title
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok && inside {
			fields = append(fields, Field{name, value})
		}
	}
	return fields
}

// infoFields returns the "name:value" lines of a text.
func infoFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && !strings.HasPrefix(line, "#") {
			fields[name] = value
		}
	}
	return fields
}
