"""Checks the kinds of connection pools that redis-py's guides show."""

import asyncio

import redis
import redis.asyncio

from berth import POOL, expect, key, raises, together, url

pool = redis.ConnectionPool(**POOL, db=0, decode_responses=True)


def global_pool():
    def visit(user):
        r = redis.Redis(connection_pool=pool)
        r.hset(key(f"user:{user}"), "name", "Alice")
        r.hset(key(f"user:{user}"), "seen", "1")

    for user in range(5):
        visit(user)
    expect(pool._created_connections, 1, "connections made")
    expect(len(pool._available_connections), 1, "idle connections")
    expect(redis.Redis(connection_pool=pool).hgetall(key("user:4")), {"name": "Alice", "seen": "1"}, "HGETALL")


def one_connection():
    connection = pool.get_connection("SET")
    try:
        connection.send_command("SET", key("k1"), "value1")
        expect(connection.read_response(), "OK", "SET")
        connection.send_command("INCR", key("counter"))
        expect(connection.read_response(), 1, "INCR")
    finally:
        pool.release(connection)
    pipe = redis.Redis(connection_pool=pool).pipeline()
    pipe.set(key("{k}2"), "value2")
    pipe.get(key("{k}2"))
    expect(pipe.execute(), [True, "value2"], "pipeline")


def limited():
    small = redis.ConnectionPool(
        **POOL, db=0, decode_responses=True,
        max_connections=2, retry_on_timeout=True, health_check_interval=1,
    )
    first, second = small.get_connection("_"), small.get_connection("_")
    raises(redis.ConnectionError, "Too many connections", small.get_connection, "_")
    small.release(second)
    small.release(first)
    r = redis.Redis(connection_pool=small)
    r.set(key("advanced"), "it works!")
    for c in (first, second):
        c.next_health_check = 1  # long ago, so PING comes before the next command
    expect(r.get(key("advanced")), "it works!", "GET after a health check")
    small.disconnect()

    waits = redis.Redis(connection_pool=redis.BlockingConnectionPool(max_connections=4, timeout=20, **POOL))
    name = key("hits")
    together(*[lambda: [waits.incr(name) for _ in range(25)] for _ in range(20)])
    expect(waits.get(name), b"500", "INCR by 20 threads on 4 connections")


def from_url():
    r = redis.Redis.from_url(url(decode_responses=True, health_check_interval=30))
    r.set(key("url"), "v")
    expect(r.get(key("url")), "v", "GET")
    r = redis.from_url(url())
    expect(r.get(key("url")), b"v", "GET of bytes")


async def asynchronous():
    apool = redis.asyncio.ConnectionPool.from_url(url(), db=0, decode_responses=True)
    r = redis.asyncio.Redis(connection_pool=apool)
    await asyncio.gather(*[r.incr(key("async")) for _ in range(100)])
    expect(await r.get(key("async")), "100", "INCR by 100 coroutines")
    async with r.pipeline(transaction=True) as pipe:
        expect(await pipe.set(key("{a}"), "1").incr(key("{a}")).execute(), [True, 2], "pipeline")

    async def add():
        while True:
            async with r.pipeline() as pipe:
                try:
                    await pipe.watch(key("w"))
                    n = int(await pipe.get(key("w")) or 0)
                    pipe.multi()
                    pipe.set(key("w"), n + 1)
                    await pipe.execute()
                    return
                except redis.WatchError:
                    continue

    await asyncio.gather(*[add() for _ in range(20)])
    expect(await r.get(key("w")), "20", "WATCH by 20 coroutines")

    subscriber = r.pubsub()
    await subscriber.subscribe(key("news"))
    expect((await subscriber.get_message(timeout=5))["type"], "subscribe", "SUBSCRIBE")
    await r.publish(key("news"), "hi")
    expect((await subscriber.get_message(timeout=5))["data"], "hi", "a message")
    await subscriber.close()
    waiting = asyncio.ensure_future(r.blpop([key("queue")], timeout=0))
    while waiting.done() is False:
        await r.rpush(key("queue"), "job")
        await asyncio.sleep(0.01)
    expect(await waiting, (key("queue"), "job"), "BLPOP")
    await r.close()
    await apool.disconnect()


global_pool()
one_connection()
limited()
from_url()
asyncio.run(asynchronous())
print("ok")
