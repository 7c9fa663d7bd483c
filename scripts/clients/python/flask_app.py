"""Checks a Flask application whose threads share one pool."""

import logging
import threading
import urllib.request

import redis
from flask import Flask
from werkzeug.serving import make_server

from berth import POOL, expect, key, together

app = Flask(__name__)
pool = redis.ConnectionPool(**POOL, db=0, decode_responses=True)


@app.route("/visit")
def visit():
    r = redis.Redis(connection_pool=pool)
    r.incr(key("page_views:home"))
    return f"This page has been viewed {r.get(key('page_views:home'))} times."


@app.route("/reserve")
def reserve():
    r = redis.Redis(connection_pool=pool)
    return str(r.transaction(lambda pipe: pipe.multi() or pipe.decr(key("seats")), key("seats"))[0])


logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()


def get(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as answer:
        expect(answer.status, 200, path)
        return answer.read().decode()


redis.Redis(connection_pool=pool).set(key("seats"), 40)
together(*[lambda: [get("/visit") for _ in range(10)] for _ in range(8)])
expect(get("/visit"), "This page has been viewed 81 times.", "views")
left = together(*[lambda: [int(get("/reserve")) for _ in range(5)] for _ in range(8)])
expect(sorted(n for some in left for n in some), list(range(40)), "each seat once")
server.shutdown()
print("ok")
