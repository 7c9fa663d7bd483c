"""The common code of the programs in this folder: how to connect to berth, and helpers for checks."""

import os
import sys
import threading
from urllib.parse import urlencode

import redis

HOST, PORT, KIND, PREFIX = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
CLUSTER = KIND == "cluster"
TLS = {name: file for name, file in zip(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), sys.argv[5:8]) if file}
if TLS:
    # redis-py reads all authorities of the machine for each connection, which takes it some 25 ms.
    os.environ["SSL_CERT_FILE"] = TLS["ssl_ca_certs"]

# What redis.Redis and a pool take, and below, in a URL, what both do.
CLIENT = {"host": HOST, "port": PORT, **({"ssl": True, **TLS} if TLS else {})}
POOL = {"host": HOST, "port": PORT, **({"connection_class": redis.SSLConnection, **TLS} if TLS else {})}


def url(**options):
    scheme, tls = ("rediss", {"ssl_cert_reqs": "required", **TLS}) if TLS else ("redis", {})
    return f"{scheme}://{HOST}:{PORT}/0?{urlencode({**tls, **options})}"


def expect(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def raises(kind, words, call, *args):
    try:
        got = call(*args)
    except kind as e:
        if words in str(e):
            return
        raise
    raise AssertionError(f"{call}{args} gave {got!r} instead of {words}")


def key(name):
    return PREFIX + name


def together(*calls):
    """Runs all calls in parallel and returns their results. Raises the first exception of a call."""
    results, errors = [None] * len(calls), []

    def one(i, call):
        try:
            results[i] = call()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=one, args=(i, c)) for i, c in enumerate(calls)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def eventually(what, check):
    """Polls a condition that another client must make true."""
    pause = threading.Event()
    for _ in range(2000):
        if check():
            return
        pause.wait(0.005)
    raise AssertionError(f"waited for {what}")
