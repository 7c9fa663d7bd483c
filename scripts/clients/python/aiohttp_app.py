"""Checks an asyncio web application whose pool starts and stops with the application."""

import asyncio

import aiohttp
import redis.asyncio
from aiohttp import web

from berth import expect, key, url


async def pool(app):
    app["pool"] = redis.asyncio.ConnectionPool.from_url(url(), db=0, decode_responses=True)
    yield
    await app["pool"].disconnect()


async def put(request):
    r = redis.asyncio.Redis(connection_pool=request.app["pool"])
    await r.set(key(request.match_info["key"]), request.match_info["value"])
    return web.json_response({"set": request.match_info["key"]})


async def get(request):
    r = redis.asyncio.Redis(connection_pool=request.app["pool"])
    return web.json_response({"value": await r.get(key(request.match_info["key"]))})


async def main():
    app = web.Application()
    app.cleanup_ctx.append(pool)
    app.router.add_get("/set/{key}/{value}", put)
    app.router.add_get("/get/{key}", get)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def ask(path):
            async with session.get(path) as answer:
                expect(answer.status, 200, path)
                return await answer.json()

        expect(await ask("/get/none"), {"value": None}, "no key")
        await asyncio.gather(*[ask(f"/set/k{i}/v{i}") for i in range(200)])
        got = await asyncio.gather(*[ask(f"/get/k{i}") for i in range(200)])
        expect(got, [{"value": f"v{i}"} for i in range(200)], "values")
    await runner.cleanup()


asyncio.run(main())
print("ok")
