"""The common code of the programs in this folder: berth's address and helpers for checks."""

import sys
import threading

HOST, PORT, KIND, PREFIX = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
CLUSTER = KIND == "cluster"


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
