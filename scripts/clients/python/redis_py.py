"""Checks redis-py's plain client, and with a Cluster also its RedisCluster."""

import hashlib
import logging

import redis
from redis.cluster import RedisCluster

from berth import CLIENT, CLUSTER, HOST, PORT, eventually, expect, key, raises, together


def pipelines(r, tag):
    pipe = r.pipeline(transaction=False)
    for i in range(1000):
        pipe.set(key(f"{tag}:p{i}"), i)
    expect(pipe.execute(), [True] * 1000, "pipeline of SET")
    for i in range(1000):
        pipe.get(key(f"{tag}:p{i}"))
    expect(pipe.execute(), [str(i) for i in range(1000)], "pipeline of GET")


def large_value(r, tag):
    value = "0123456789abcdef" * (1 << 18)
    expect(r.set(key(f"{tag}:large"), value), True, "SET of 4 MB")
    expect(r.get(key(f"{tag}:large")) == value, True, "GET of 4 MB returns the value of SET")
    expect(r.delete(key(f"{tag}:large")), 1, "DEL")


def transactions(r, tag):
    a, b = key(f"{{{tag}}}:a"), key(f"{{{tag}}}:b")
    expect(r.pipeline().set(a, 1).incr(a).execute(), [True, 2], "MULTI")
    with r.pipeline() as pipe:
        pipe.watch(a)
        r.set(a, "other")
        pipe.multi()
        pipe.set(b, "never")
        raises(redis.WatchError, "", pipe.execute)
    expect(r.exists(b), 0, "EXISTS after a conflict")

    r.set(a, 0)

    def add():
        for _ in range(20):
            with r.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch(a)
                        n = int(pipe.get(a))
                        pipe.multi()
                        pipe.set(a, n + 1)
                        pipe.execute()
                        break
                    except redis.WatchError:
                        continue

    together(add, add, add, add)
    expect(r.get(a), "80", "counter of four threads that retry")
    expect(r.transaction(lambda pipe: pipe.multi() or pipe.incr(a), a), [81], "transaction()")


def blocking(r, tag):
    q, other = key(f"{{{tag}}}:q"), key(f"{{{tag}}}:other")
    expect(r.blpop([q], timeout=0.05), None, "BLPOP that times out")

    def push():
        eventually("a blocked client", lambda: blocked(r) > 0)
        r.rpush(q, "x")

    expect(together(lambda: r.blpop([q, other], timeout=0), push)[0], (q, "x"), "BLPOP for ever")
    expect(together(lambda: r.blmove(q, other, 0, "LEFT", "RIGHT"), push)[0], "x", "BLMOVE")
    expect(r.lrange(other, 0, -1), ["x"], "what BLMOVE moved")
    r.zadd(key(f"{tag}:z"), {"m": 1})
    expect(r.bzpopmin([key(f"{tag}:z")], timeout=1), (key(f"{tag}:z"), "m", 1.0), "BZPOPMIN")


def blocked(r):
    info = r.info("clients")
    return info["blocked_clients"]


def streams(r, tag):
    s = key(f"{tag}:s")
    r.xgroup_create(s, "g", "$", mkstream=True)
    raises(redis.ResponseError, "BUSYGROUP", r.xgroup_create, s, "g")

    def add():
        eventually("a blocked client", lambda: blocked(r) > 0)
        return r.xadd(s, {"f": "v"})

    got, id1 = together(lambda: r.xreadgroup("g", "c1", {s: ">"}, block=0), add)
    expect(got, [[s, [(id1, {"f": "v"})]]], "XREADGROUP that blocks")
    expect(r.xpending(s, "g")["pending"], 1, "XPENDING")
    expect(r.xack(s, "g", id1), 1, "XACK")
    got, id2 = together(lambda: r.xread({s: "$"}, block=0), add)
    expect(got, [[s, [(id2, {"f": "v"})]]], "XREAD from $")
    expect(r.xreadgroup("g", "c1", {s: ">"})[0][1][0][0], id2, "XREADGROUP")
    expect(r.xautoclaim(s, "g", "c2", 0)[1][0][0], id2, "XAUTOCLAIM")
    expect(r.xread({s: "$"}, block=20), [], "XREAD that times out")


def pubsub(r, tag):
    channel = key(f"{tag}:news")
    p = r.pubsub()
    p.subscribe(channel)
    p.psubscribe(channel + "*")
    kinds = [p.get_message(timeout=5)["type"] for _ in range(2)]
    expect(kinds, ["subscribe", "psubscribe"], "confirmations")
    r.publish(channel, "hello")
    got = [p.get_message(timeout=5) for _ in range(2)]
    expect([m["type"] for m in got], ["message", "pmessage"], "what was published")
    expect([m["data"] for m in got], ["hello", "hello"], "its text")
    p.ping()
    expect(p.get_message(timeout=5)["type"], "pong", "PING while subscribed")
    if p.connection.health_check_interval:
        p.connection.next_health_check = 1  # long ago, so PING redis-py-health-check comes before the next message
        r.publish(channel, "checked")
        got = [m["data"] for m in (p.get_message(timeout=5) for _ in range(3)) if m]
        expect(got, ["checked", "checked"], "messages around a health check")
        expect(p.health_check_response_counter, 0, "health checks without an answer")
    p.unsubscribe()
    p.punsubscribe()
    kinds = [p.get_message(timeout=5)["type"] for _ in range(2)]
    expect(kinds, ["unsubscribe", "punsubscribe"], "the end")
    p.close()


def scripts(r, tag):
    k = key(f"{tag}:script")
    text = f"return redis.call('INCRBY', KEYS[1], ARGV[1]) -- {key(tag)}"
    sha = r.script_load(text)
    expect(r.evalsha(sha, 1, k, 5), 5, "EVALSHA")
    expect(r.script_exists(sha, "f" * 40), [True, False], "SCRIPT EXISTS")
    raises(redis.exceptions.NoScriptError, "", r.evalsha, "0" * 40, 1, k)
    # A Script sends EVALSHA, and loads itself after NOSCRIPT.
    script = r.register_script(text + " never loaded before")
    expect(script(keys=[k], args=[2]), 7, "a Script object")
    once = text + " evaluated once"
    expect(r.eval(once, 1, k, 1), 8, "EVAL")
    once_sha = hashlib.sha1(once.encode()).hexdigest()
    for i in range(8):  # on all nodes
        with r.pipeline(transaction=i % 2 == 0) as p:
            script(keys=[key(f"{tag}:script{i}")], args=[3], client=p)
            p.evalsha(once_sha, 1, key(f"{tag}:script{i}"), 4)
            expect(p.execute(), [3, 7], "EVALSHA in a pipeline")


def functions(r, tag):
    lib = key(tag).replace("-", "_").replace(":", "_").replace(".", "_").replace("{", "_").replace("}", "_")
    code = f"#!lua name={lib}\nredis.register_function('{lib}_f', function(k, a) return redis.call('INCRBY', k[1], a[1]) end)"
    expect(r.function_load(code, replace=True), lib, "FUNCTION LOAD")
    for i in range(8):
        expect(r.fcall(f"{lib}_f", 1, key(f"{tag}:f{i}"), i), i, "FCALL")
    expect(r.function_delete(lib) in (True, "OK"), True, "FUNCTION DELETE")


def scan(r, tag):
    want = {key(f"{tag}:p{i}") for i in range(1000)}
    expect(set(r.scan_iter(match=key(f"{tag}:p*"), count=100)), want, "SCAN")
    expect(len(r.keys(key(f"{tag}:p*"))), 1000, "KEYS")
    names = sorted(want)
    expect(r.unlink(*names), 1000, "UNLINK of a thousand")


def killed(r, tag):
    """A killed connection causes at most one error, as with Redis."""
    for _ in range(3):
        old = r.client_id()
        expect(r.client_kill_filter(_id=old, skipme=False), 1, "CLIENT KILL of its own connection")
        for last in (False, True):
            try:
                expect(r.set(key(f"{tag}:k"), "v"), True, "SET after CLIENT KILL")
                break
            except redis.ConnectionError:
                if last:
                    raise
        expect(r.client_id() > old, True, "CLIENT ID after reconnecting")


def databases():
    r = redis.Redis(**CLIENT, db=1, decode_responses=True)
    if CLUSTER:
        raises(redis.ResponseError, "", r.get, key("db"))
        return
    zero = redis.Redis(**CLIENT, decode_responses=True)
    r.set(key("db"), "one")
    zero.set(key("db"), "zero")
    expect((r.get(key("db")), zero.get(key("db"))), ("one", "zero"), "databases")
    expect(zero.client_setname("zero"), True, "CLIENT SETNAME")


def plain(tag, **options):
    r = redis.Redis(**CLIENT, decode_responses=True, single_connection_client=False, **options)
    expect(r.ping(), True, "PING")
    expect(r.mset({key(f"{tag}:m{i}"): i for i in range(50)}), True, "MSET")
    expect(r.mget([key(f"{tag}:m{i}") for i in range(50)]), [str(i) for i in range(50)], "MGET")
    for part in (pipelines, large_value, transactions, blocking, streams, pubsub, scripts, functions, scan):
        part(r, tag)
    killed(redis.Redis(**CLIENT, decode_responses=True, single_connection_client=True), tag)
    r.close()


def cluster(tag):
    r = RedisCluster(**CLIENT, decode_responses=True)
    expect([(n.host, n.port, n.server_type) for n in r.get_nodes()], [(HOST, PORT, "primary")], "the one node")
    pipe = r.pipeline()
    for i in range(1000):
        pipe.set(key(f"{tag}:p{i}"), i)
    expect(pipe.execute(), [True] * 1000, "pipeline of SET")
    expect(r.get(key(f"{tag}:p7")), "7", "GET")
    expect(r.mset_nonatomic({key(f"{tag}:m{i}"): i for i in range(50)}), [True] * 50, "MSET by slot")
    expect(r.mget_nonatomic([key(f"{tag}:m{i}") for i in range(50)]), [str(i) for i in range(50)], "MGET by slot")
    large_value(r, tag)
    expect(r.blpop([key("none")], timeout=0.05), None, "BLPOP that times out")
    got = set(r.scan_iter(match=key(f"{tag}:p*"), count=100))
    expect(got, {key(f"{tag}:p{i}") for i in range(1000)}, "SCAN")
    p = r.pubsub()
    p.subscribe(key("cc"))
    expect(p.get_message(timeout=5)["type"], "subscribe", "SUBSCRIBE")
    r.publish(key("cc"), "hi")
    expect(p.get_message(timeout=5)["data"], "hi", "a message")
    p.close()
    expect(r.cluster_info()["cluster_state"], "ok", "CLUSTER INFO")
    raises(redis.exceptions.NoScriptError, "", r.evalsha, "0" * 40, 1, key("x"))
    expect(r.eval("return KEYS[1]", 1, key("x")), key("x"), "EVAL")
    r.close()


logging.disable()  # RedisCluster logs each exception before it raises it
plain("plain", client_name="plain")
plain("checked", health_check_interval=1, retry_on_timeout=True, socket_timeout=20)
databases()
if CLUSTER:
    cluster("cluster")
print("ok")
