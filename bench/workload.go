//go:build linux

package main

import (
	"fmt"
	"math/rand"
	"slices"
)

// workload defines what the clients of one driver do. All its methods run on the driver's thread.
// now is driver time.
type workload interface {
	// start begins the first exchanges. The driver calls it once, after all clients are connected.
	start(d *driver)
	// request appends a client's next request to dst, or a group such as MULTI to EXEC, and adds
	// the replies that the client is owed.
	request(d *driver, c *client, dst []byte) []byte
	// answered continues after a client has received all replies of an exchange.
	answered(d *driver, c *client, now int64)
	// judge reports whether a reply of the kind wantOwn is correct.
	judge(d *driver, c *client, w want, raw []byte) bool
	// pushed reports whether data that is not a reply to a request is correct.
	pushed(d *driver, c *client, raw []byte, now int64) bool
}

// plain has the default methods of a workload in which every client repeats the same request.
type plain struct{}

func (plain) start(d *driver) {
	if d.interval > 0 {
		return // the schedule begins the exchanges
	}
	now := d.time()
	for _, c := range d.clients {
		d.next(c, now)
	}
}
func (plain) answered(d *driver, c *client, now int64)    { d.next(c, now) }
func (plain) judge(*driver, *client, want, []byte) bool   { return false }
func (plain) pushed(*driver, *client, []byte, int64) bool { return false }

// workloads lists all workloads in the order of the help text.
var workloads = []struct {
	name, does string
	closed     bool // has no open loop
	make       func(s *scenario) workload
}{
	{"get", "GET of a random key", false, func(*scenario) workload { return get{} }},
	{"set", "SET of a random key", false, func(*scenario) workload { return set{} }},
	{"mixed", "80 % GET, 20 % SET, keys by Zipf's law", false, func(s *scenario) workload { return newMixed(s.Keys) }},
	{"mget", "MGET of 100 random keys of all shards", false, func(*scenario) workload { return &mget{} }},
	{"txn-blob", "MULTI, 4 commands, EXEC in one write", false, func(*scenario) workload { return &txnBlob{} }},
	{"txn-watch", "WATCH, GET, then MULTI SET EXEC: three exchanges", true, func(*scenario) workload { return &txnWatch{} }},
	{"queue", "half of the clients wait in BLPOP, the others RPUSH to them", true, func(*scenario) workload { return newQueue() }},
	{"workers", "one client pushes to ch lists in turn, all others wait in BLPOP on these; a request is the way of an element", false, func(s *scenario) workload { return &workers{lists: s.Channels} }},
	{"pubsub", "one client publishes to ch channels in turn, all others listen; a request is a delivery", true, func(s *scenario) workload { return &pubsub{channels: s.Channels} }},
	{"churn", "connect, GET, close", true, func(*scenario) workload { return churn{} }},
	{"idle", "connect, one PING, then nothing: memory per client", true, func(*scenario) workload { return idle{} }},
	{"big", "one client sets and gets a huge value, all others GET small values", true, func(s *scenario) workload { return &big{size: s.Value} }},
	{"hog", "one client sends MGET with 100,000 keys, all others GET one key", true, func(*scenario) workload { return &hog{} }},
}

// newWorkload returns a driver's workload for a scenario.
func newWorkload(s *scenario) workload {
	for _, w := range workloads {
		if w.name == s.Name {
			return w.make(s)
		}
	}
	panic(fmt.Sprintf("bench: no workload %q", s.Name)) // parseScenario has checked the name
}

// get reads random keys.
type get struct{ plain }

func (get) request(d *driver, c *client, dst []byte) []byte {
	return appendGet(dst, c, d.anyKey(c))
}

// appendGet appends a GET.
func appendGet(dst []byte, c *client, k uint32) []byte {
	c.owes(wantValue, k, true)
	dst = append(dst, "*2\r\n$3\r\nGET\r\n"...)
	return appendKeyBulk(dst, k)
}

// set writes random keys.
type set struct{ plain }

func (set) request(d *driver, c *client, dst []byte) []byte {
	return appendSet(dst, c, d.anyKey(c))
}

// appendSet appends a SET. It leaves a long value to the client's body.
func appendSet(dst []byte, c *client, k uint32) []byte {
	c.owes(wantOK, k, true)
	dst = append(dst, "*3\r\n$3\r\nSET\r\n"...)
	dst = appendKeyBulk(dst, k)
	if c.shape.size < streamFrom {
		return c.shape.appendBulk(dst, k)
	}
	c.body = body{key: k, left: c.shape.size + 2}
	return append(dst, c.shape.header...)
}

// mixed reads four times as often as it writes, and uses some keys far more often than others.
type mixed struct {
	plain
	sample []uint32 // keys drawn in advance, because drawing costs more than sending
}

const (
	zipfExponent = 1.1
	zipfSample   = 1 << 16
)

func newMixed(keys uint32) *mixed {
	m := &mixed{sample: make([]uint32, zipfSample)}
	draw := rand.NewZipf(rand.New(rand.NewSource(1)), zipfExponent, 1, uint64(keys-1))
	for i := range m.sample {
		m.sample[i] = uint32(draw.Uint64())
	}
	return m
}

func (m *mixed) request(d *driver, c *client, dst []byte) []byte {
	r := d.random()
	k := m.sample[r%zipfSample]
	if c.keys != nil {
		k = c.keys[int(k)%len(c.keys)]
	}
	if (r>>32)%5 == 0 {
		return appendSet(dst, c, k)
	}
	return appendGet(dst, c, k)
}

// mget reads many keys at once.
type mget struct{ plain }

const (
	mgetKeys = 100
	hogKeys  = 100_000
)

// mgetKey returns the i-th key of the request with a seed.
func mgetKey(seed uint32, i int, keys uint32) uint32 {
	x := uint64(seed)*0x9e3779b97f4a7c15 + uint64(i)*0xbf58476d1ce4e5b9
	x ^= x >> 29
	x *= 0x94d049bb133111eb
	return uint32((x >> 32) * uint64(keys) >> 32)
}

func (*mget) request(d *driver, c *client, dst []byte) []byte {
	return appendMget(d, c, dst, mgetKeys)
}

func (*mget) judge(d *driver, c *client, w want, raw []byte) bool {
	return isMget(d, c, w, raw, mgetKeys)
}

// appendMget appends an MGET of n keys.
func appendMget(d *driver, c *client, dst []byte, n int) []byte {
	seed := uint32(d.random() >> 32)
	c.owes(wantOwn, seed, true)
	dst = fmt.Appendf(dst, "*%d\r\n$4\r\nMGET\r\n", n+1)
	for i := range n {
		dst = appendKeyBulk(dst, mgetKey(seed, i, d.keys))
	}
	return dst
}

// isMget reports whether raw is the reply to a request of appendMget.
func isMget(d *driver, c *client, w want, raw []byte, n int) bool {
	head := fmt.Sprintf("*%d\r\n", n)
	each := len(c.shape.header) + c.shape.size + 2
	if len(raw) != len(head)+n*each || string(raw[:len(head)]) != head {
		return false
	}
	for i := range n {
		if !c.shape.isReply(raw[len(head)+i*each:][:each], mgetKey(w.key, i, d.keys)) {
			return false
		}
	}
	return true
}

// churn opens a new connection for each request.
type churn struct{ get }

func (churn) answered(d *driver, c *client, now int64) {
	d.hangUp(c)
	if d.going() && !d.dial(c) {
		return
	}
	d.next(c, now)
}

// idle does nothing once it is connected.
type idle struct{ plain }

func (idle) start(*driver)                                   {}
func (idle) request(_ *driver, _ *client, dst []byte) []byte { return dst }

// big lets the first client set and get huge values, while all others read small values. Only the
// others' requests count.
type big struct {
	plain
	size  int  // bytes of the huge value; 0: the first client does the same as the others
	reads bool // the next request of the first client is a GET
}

func (b *big) start(d *driver) {
	if b.size > 0 {
		d.clients[0].shape = newShape(b.size)
		d.clients[0].class = 1
	}
	b.plain.start(d)
}

func (b *big) request(d *driver, c *client, dst []byte) []byte {
	if c.class == 0 {
		return appendGet(dst, c, d.anyKey(c))
	}
	k := d.keys // the first key that the other clients do not read
	if c.keys != nil {
		k = c.keys[0]
	}
	b.reads = !b.reads
	if b.reads {
		return appendSet(dst, c, k)
	}
	return appendGet(dst, c, k)
}

// hog lets the first client read very many keys at once. Only the others' requests count.
type hog struct {
	plain
	quiet bool // the first client does the same as the others
}

func (h *hog) start(d *driver) {
	if !h.quiet {
		d.clients[0].class = 1
	}
	h.plain.start(d)
}

func (*hog) request(d *driver, c *client, dst []byte) []byte {
	if c.class == 0 {
		return appendGet(dst, c, d.anyKey(c))
	}
	return appendMget(d, c, dst, hogKeys)
}

func (*hog) judge(d *driver, c *client, w want, raw []byte) bool {
	return isMget(d, c, w, raw, hogKeys)
}

// fill gives every key its value once.
type fill struct {
	plain
	next []uint32 // by client: how many of its keys have been sent
}

func (f *fill) start(d *driver) {
	f.next = make([]uint32, len(d.clients))
	f.plain.start(d)
}

func (f *fill) answered(d *driver, c *client, now int64) {
	if f.next[c.id] < f.of(d, c) {
		d.next(c, now)
		return
	}
	c.busy = false
	d.busy--
}

// of returns how many keys a client fills.
func (f *fill) of(d *driver, c *client) uint32 {
	if c.keys != nil {
		return uint32(len(c.keys))
	}
	return d.keys
}

func (f *fill) request(d *driver, c *client, dst []byte) []byte {
	i := f.next[c.id]
	if i >= f.of(d, c) {
		return dst // the last pipeline may be shorter
	}
	f.next[c.id]++
	if c.keys != nil {
		i = c.keys[i]
	}
	return appendSet(dst, c, i)
}

// knownWorkload reports whether there is a workload with this name.
func knownWorkload(name string) bool {
	return slices.Contains(workloadNames(), name)
}

// workloadNames returns the names of all workloads.
func workloadNames() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

// closedOnly reports whether a workload has no open loop.
func closedOnly(name string) bool {
	for _, w := range workloads {
		if w.name == name {
			return w.closed
		}
	}
	return false
}
