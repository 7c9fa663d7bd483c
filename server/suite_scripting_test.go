package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestSuiteScripts(t *testing.T) { compareTalks(t, scriptTalks) }

func TestScriptsAreKilledPastWhatTheyHoldUp(t *testing.T) {
	parallel(t)
	for _, cluster := range []bool{false, true} {
		servers, url := []*redistest.Server{}, ""
		if cluster {
			c := redistest.StartCluster(t, 2, 0)
			servers, url = []*redistest.Server{c.Node(0), c.Node(1)}, clusterURL(c)
		} else {
			s := redistest.Start(t)
			servers, url = append(servers, s), s.Addr()
		}
		for _, s := range servers {
			s.Do(t, "CONFIG", "SET", "busy-reply-threshold", 1)
		}
		b := startBerth(t, url, "--loops", "1")
		runner, killer := dial(t, b.Addr()), dial(t, b.Addr())
		killer.Do("HELLO", 3)
		script(t, killer, "SCRIPT KILL → NOTBUSY No scripts in execution right now.", "FUNCTION KILL → NOTBUSY No scripts in execution right now.")
		runner.Send("EVAL", "while true do end", 0)
		eventually(t, "the script to be killed", func() bool { return killer.Do("SCRIPT", "KILL") == "OK" })
		if got, ok := runner.Recv().(redistest.Error); !ok || !strings.Contains(string(got), "Script killed by user") {
			t.Errorf("%v", got)
		}
		runner.Send("EVAL", spinAfterWrite, 1, "sk:wrote")
		eventually(t, "the script that has written not to be killed", func() bool {
			return strings.HasPrefix(fmt.Sprint(killer.Do("SCRIPT", "KILL")), "UNKILLABLE")
		})
		runner.Recv()
		runner.Do("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('spin', function() while true do end end)")
		runner.Send("FCALL", "spin", 0)
		eventually(t, "the function to be killed", func() bool { return killer.Do("FUNCTION", "KILL") == "OK" })
		if got, ok := runner.Recv().(redistest.Error); !ok || !strings.Contains(string(got), "killed by user") {
			t.Errorf("%v", got)
		}
		script(t, killer, "PING → PONG")
		script(t, runner, "GET sk:k → <nil>")
	}
}

// spinAfterWrite writes, and takes a third of a second.
const spinAfterWrite = `redis.call('set', KEYS[1], 1)
local function now() local t = redis.call('time') return t[1] * 1e6 + t[2] end
local until_ = now() + 3e5
while now() < until_ do end`

var scriptTalks = []conversation{
	{name: "what Lua gives becomes a reply", lines: `
		a: EVAL "return {1, 3.9, 'x', true, false, {nested = 1}, {1, {2}}}" 0
		a: EVAL "return {ok = 'fine'}" 0
		a: EVAL "return {err = 'ERR bad'}" 0
		a: EVAL "return {double = 3.25}" 0
		a: EVAL "redis.setresp(3) return {map = {a = 1}}" 0
		a: EVAL "redis.setresp(3) return {set = {a = true}}" 0
		a: EVAL "redis.setresp(3) return redis.call('hgetall', KEYS[1])" 1 %th
		a: HSET %th f v
		a: EVAL "redis.setresp(3) return redis.call('hgetall', KEYS[1])" 1 %th
		a: EVAL "return redis.call('hgetall', KEYS[1])" 1 %th
		a: EVAL "return cmsgpack.unpack(cmsgpack.pack({1, 2}))" 0
		a: EVAL "return cjson.encode({a = {1, 2}})" 0
		a: EVAL "return string.rep('x', 100000)" 0
		a: EVAL "return {}" 0
		a: EVAL "return 9007199254740993" 0`},
	{name: "errors of scripts", lines: `
		a: EVAL "return redis.call('nosuch')" 0
		a: EVAL "return redis.call('get')" 0
		a: EVAL "return redis.pcall('incr', KEYS[1])" 1 %tk
		a: SET %tk abc
		a: EVAL "return redis.call('incr', KEYS[1])" 1 %tk
		a: EVAL "return redis.pcall('incr', KEYS[1])" 1 %tk
		a: EVAL "local e = redis.pcall('incr', KEYS[1]) return e.err" 1 %tk
		a: EVAL "error('boom')" 0
		a: EVAL "error({err = 'My custom'})" 0
		a: EVAL "return x" 0
		a: EVAL "return 1" -1
		a: EVAL "return 1" x
		a: EVAL "return 1" 2 %tk
		a: EVAL "return 1"
		a: EVAL "return redis.call('client', 'reply', 'off')" 0
		a: EVAL "return redis.call('auth', 'x')" 0
		a: EVAL "return redis.call('wait', '1', '0')" 0
		a: EVAL "return redis.call('subscribe', 'x')" 0
		a: EVAL "#!lua name=x\nreturn 1" 0
		a: EVAL "#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], 'x')" 1 %tk
		a: EVAL "#!lua flags=allow-stale,no-cluster\nreturn 1" 0
		a: EVAL_RO "return redis.call('set', KEYS[1], 'x')" 1 %tk
		a: EVAL_RO "return redis.call('get', KEYS[1])" 1 %tk`},
	{name: "scripts by their digest", alone: true, lines: `
		a: SCRIPT FLUSH
		a: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
		a: SCRIPT LOAD "return 1"
		a: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
		a: EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0
		a: EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
		b: SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x
		a: SCRIPT EXISTS
		a: SCRIPT FLUSH ASYNC
		a: SCRIPT FLUSH SYNC
		a: SCRIPT FLUSH NOW
		b: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
		a: SCRIPT KILL
		a: SCRIPT HELP
		a: SCRIPT NOSUCH
		a: SCRIPT LOAD "return ("`},
	{name: "functions", alone: true, lines: `
		a: FUNCTION FLUSH
		a: FUNCTION LOAD "#!lua name=lib\nredis.register_function('f', function(keys, args) return {keys, args} end)\nredis.register_function{function_name='r', callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}"
		a: FCALL f 1 %tk a b
		a: FCALL_RO f 1 %tk
		a: SET %tk v
		a: FCALL_RO r 1 %tk
		a: FCALL F 0
		a: FCALL nosuch 0
		a: FCALL f x
		a: FCALL f -1
		a: FCALL f 3 a
		a: FUNCTION LOAD "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
		a: FUNCTION LOAD REPLACE "#!lua name=lib\nredis.register_function('f', function() return 'new' end)"
		b: FCALL f 0
		a: FUNCTION LOAD "return 1"
		a: FUNCTION LOAD "#!lua name=x\n return 1"
		a: FUNCTION LIST
		a: FUNCTION LIST LIBRARYNAME l* WITHCODE
		a: FUNCTION LIST LIBRARYNAME
		a: FUNCTION STATS
		a: FUNCTION DUMP
		a: FUNCTION RESTORE bad
		a: FUNCTION DELETE nosuch
		a: FUNCTION DELETE lib
		a: FUNCTION KILL
		a: FUNCTION FLUSH NOW
		a: FUNCTION HELP
		a: FUNCTION NOSUCH
		a: FUNCTION LIST`},
	{name: "a script's own words about its client", lines: `
		a: EVAL "return redis.call('ping')" 0
		a: EVAL "return redis.call('echo', 'x')" 0
		a: EVAL "return redis.call('type', KEYS[1])" 1 %tk
		a: EVAL "return redis.call('exists', KEYS[1])" 1 %tk
		a: EVAL "return redis.acl_check_cmd('set', 'x', 1)" 0
		a: EVAL "return redis.REDIS_VERSION_NUM" 0
		a: EVAL "redis.log(redis.LOG_DEBUG, 'x') return redis.breakpoint()" 0
		a: EVAL "return redis.sha1hex('x')" 0
		a: EVAL "return redis.status_reply('X')" 0
		a: EVAL "return tostring(pcall(loadstring))" 0`},
}
