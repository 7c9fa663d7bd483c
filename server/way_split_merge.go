package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// whole joins the replies to all parts. An mgetJob does it for MGET.
func (j *join) whole(dst []byte) []byte {
	kind := j.r.cmd.Join
	switch {
	case j.failed != noPart && kind == router.JoinSame:
		return j.oneFailed(dst)
	case j.failed != noPart && kind != router.JoinAny:
		return append(dst, j.reply(j.failed)...)
	}
	var err error
	switch kind {
	case router.JoinSum:
		dst, err = j.fold(dst, func(a, b int64) int64 { return a + b })
	case router.JoinMost:
		dst, err = j.fold(dst, func(a, b int64) int64 { return max(a, b) })
	case router.JoinLeast:
		dst, err = j.fold(dst, func(a, b int64) int64 { return min(a, b) })
	case router.JoinConcat:
		dst, err = j.concat(dst)
	case router.JoinUnion:
		dst, err = j.union(dst)
	case router.JoinPairs:
		dst, err = j.pairs(dst)
	case router.JoinAnd:
		dst, err = j.fold(dst, func(a, b int64) int64 { return truth(a != 0 && b != 0) })
	case router.JoinOr:
		dst, err = j.fold(dst, func(a, b int64) int64 { return truth(a != 0 || b != 0) })
	case router.JoinNewest:
		dst, err = j.mergeLogs(dst)
	case router.JoinReport:
		dst, err = j.report(dst)
	case router.JoinAny:
		return append(dst, j.anyDone()...)
	default: // JoinOK, JoinSame: the first stands for all
		return append(dst, j.reply(0)...)
	}
	if err != nil {
		return codec.AppendError(dst[:0], j.misfit())
	}
	return dst
}

// anyDone is the reply to SCRIPT KILL and FUNCTION KILL: a success, else the error of a node that
// has something to end, else NOTBUSY.
func (j *join) anyDone() []byte {
	reply := j.reply(0)
	for i := range j.parts {
		switch r := j.reply(i); {
		case r[0] != '-':
			return r
		case bytes.HasPrefix(reply, []byte("-NOTBUSY ")):
			reply = r
		}
	}
	return reply
}

// oneFailed is the error of a command that every primary was to run. If all nodes answer with the
// same error, it is that. Else it names the primary that failed first, and says on how many the
// command ran.
func (j *join) oneFailed(dst []byte) []byte {
	failed, ran, same := j.reply(j.failed), 0, true
	for i := range j.parts {
		if j.reply(i)[0] != '-' {
			ran++
		}
		same = same && bytes.Equal(j.reply(i), failed)
	}
	shards := j.r.s.topology.Shards() // those it was sent to: another topology takes effect when nothing is owed
	if same || j.failed >= len(shards) {
		return append(dst, failed...)
	}
	dst = append(dst, bytes.TrimSuffix(failed, []byte("\r\n"))...)
	return fmt.Appendf(dst, " (berth: said by %s, run on %d of %d primaries)\r\n", shards[j.failed].Primary, ran, len(j.parts))
}

func (j *join) misfit() string {
	return "ERR berth: the shards' replies to '" + j.r.cmd.Name + "' do not fit together"
}

// errShape says that a node answered with another type than the command's.
var errShape = strconv.ErrSyntax

// elements calls visit with each element of an array or set reply.
func elements(reply []byte, visit func(i int, element []byte)) error {
	n, rest, ok := header(reply)
	if !ok {
		return errShape
	}
	for i := range n {
		var scanner codec.ReplyScanner
		k, err := scanner.Scan(rest)
		if err != nil || k == 0 {
			return errShape
		}
		visit(i, rest[:k])
		rest = rest[k:]
	}
	return nil
}

// header reads "*3\r\n" or "~3\r\n".
func header(reply []byte) (n int, rest []byte, ok bool) {
	if len(reply) < 4 || reply[0] != '*' && reply[0] != '~' {
		return 0, nil, false
	}
	end := bytes.IndexByte(reply, '\r')
	if end < 0 {
		return 0, nil, false
	}
	n, err := strconv.Atoi(string(reply[1:end]))
	return n, reply[end+2:], err == nil && n >= 0
}

// integer reads ":42\r\n".
func integer(reply []byte) (int64, error) {
	if len(reply) < 4 || reply[0] != ':' {
		return 0, errShape
	}
	return strconv.ParseInt(string(reply[1:len(reply)-2]), 10, 64)
}

// fold makes one integer of the parts' integers, or one array of their arrays, element by element.
func (j *join) fold(dst []byte, op func(a, b int64) int64) ([]byte, error) {
	if _, _, isArray := header(j.reply(0)); isArray {
		return j.foldEach(dst, op)
	}
	var whole int64
	for i := range j.parts {
		n, err := integer(j.reply(i))
		switch {
		case err != nil:
			return dst, err
		case i == 0:
			whole = n
		default:
			whole = op(whole, n)
		}
	}
	return codec.AppendInt(dst, whole), nil
}

// truth is how a node writes what is true or not.
func truth(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// foldEach folds arrays of one length.
func (j *join) foldEach(dst []byte, op func(a, b int64) int64) ([]byte, error) {
	var whole []int64
	for i := range j.parts {
		var bad error
		length := 0
		err := elements(j.reply(i), func(k int, e []byte) {
			length++
			n, err := integer(e)
			switch {
			case err != nil || i > 0 && k >= len(whole):
				bad = errShape
			case i == 0:
				whole = append(whole, n)
			default:
				whole[k] = op(whole[k], n)
			}
		})
		if err != nil || bad != nil || length != len(whole) {
			return dst, errShape
		}
	}
	dst = codec.AppendArray(dst, len(whole))
	for _, n := range whole {
		dst = codec.AppendInt(dst, n)
	}
	return dst, nil
}

func (j *join) concat(dst []byte) ([]byte, error) {
	total := 0
	for i := range j.parts {
		n, _, ok := header(j.reply(i))
		if !ok {
			return dst, errShape
		}
		total += n
	}
	dst = append(dst, j.reply(0)[0])
	dst = strconv.AppendInt(dst, int64(total), 10)
	dst = append(dst, '\r', '\n')
	for i := range j.parts {
		_, rest, _ := header(j.reply(i))
		dst = append(dst, rest...)
	}
	return dst, nil
}

func (j *join) union(dst []byte) ([]byte, error) {
	seen := map[string]bool{}
	var all [][]byte
	for i := range j.parts {
		err := elements(j.reply(i), func(_ int, e []byte) {
			if !seen[string(e)] {
				seen[string(e)] = true
				all = append(all, e)
			}
		})
		if err != nil {
			return dst, err
		}
	}
	dst = codec.AppendArray(dst, len(all))
	for _, e := range all {
		dst = append(dst, e...)
	}
	return dst, nil
}

// pairs adds counts. PUBSUB NUMSUB answers name, count, name, count, with the names in the order of
// the request.
func (j *join) pairs(dst []byte) ([]byte, error) {
	var names [][]byte
	var counts []int64
	for i := range j.parts {
		var bad error
		n := 0
		err := elements(j.reply(i), func(k int, e []byte) {
			n++
			switch count, err := integer(e); {
			case k%2 == 0 && i == 0:
				names, counts = append(names, e), append(counts, 0)
			case k%2 == 0:
			case err != nil || k/2 >= len(counts):
				bad = errShape
			default:
				counts[k/2] += count
			}
		})
		if err != nil || bad != nil || n != 2*len(names) {
			return dst, errShape
		}
	}
	dst = codec.AppendArray(dst, 2*len(names))
	for i, name := range names {
		dst = append(dst, name...)
		dst = codec.AppendInt(dst, counts[i])
	}
	return dst, nil
}

// mostEntries is how many entries a request asks for: 10 unless it says otherwise, all for -1. The
// nodes refuse a word that is no number, unless it is RESET.
func mostEntries(args [][]byte) int {
	if len(args) < 3 {
		return 10
	}
	n, ok := parseInt(args[2])
	if !ok || n < 0 || n > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(n)
}

// entry is one of a log, raw, and when it happened: seconds, larger is later.
type entry struct {
	raw  []byte
	when float64
}

// mergeLogs merges the logs of all parts, the newest entries first. A reply that is no log (ACL LOG
// RESET) stands for all.
func (j *join) mergeLogs(dst []byte) ([]byte, error) {
	if j.reply(0)[0] == '+' {
		return append(dst, j.reply(0)...), nil
	}
	var all []entry
	for i := range j.parts {
		var bad error
		err := elements(j.reply(i), func(_ int, raw []byte) {
			when, err := happened(raw)
			if err != nil {
				bad = err
			}
			all = append(all, entry{raw, when})
		})
		if err != nil || bad != nil {
			return dst, errShape
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(b.when, a.when) })
	all = all[:min(len(all), j.most)]
	dst = codec.AppendArray(dst, len(all))
	for _, e := range all {
		dst = append(dst, e.raw...)
	}
	return dst, nil
}

// happened reads an entry's time: the second element in SLOWLOG, minus age-seconds in ACL LOG.
func happened(raw []byte) (when float64, err error) {
	v, err := codec.ParseValue(raw)
	if err != nil {
		return 0, err
	}
	if age, ok := v.Lookup("age-seconds"); ok {
		seconds, err := strconv.ParseFloat(age.Text(), 64)
		return -seconds, err
	}
	if len(v.Elems) < 2 || v.Elems[1].Type != ':' {
		return 0, errShape
	}
	return float64(v.Elems[1].Int), nil
}
