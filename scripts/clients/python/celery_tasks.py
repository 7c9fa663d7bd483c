"""Checks a Celery worker with berth as its broker and result backend: each task runs once."""

import collections
import os
import subprocess
import sys
import tempfile

import celery
import redis

from berth import CLIENT, CLUSTER, PREFIX, url

# Celery blocks on several queues at once, so their keys need a hash tag to be in one slot.
PREFIX = "{" + PREFIX + "}"

app = celery.Celery("celery_tasks", broker=url(), backend=url())
app.conf.update(
    broker_transport_options={"global_keyprefix": PREFIX},
    task_default_queue="tasks",
    broker_connection_retry=False,
    worker_hijack_root_logger=False,
)


@app.task
def add(a, b):
    redis.Redis(**CLIENT).rpush(PREFIX + "ran", a)
    return a + b


@app.task
def fail():
    raise ValueError("as asked")


@app.task(bind=True, max_retries=3)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


def work():
    app.worker_main(["worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "ERROR"])


def main():
    log = tempfile.TemporaryFile()
    worker = subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], "worker"], stdout=log, stderr=log,
        env={**os.environ, "C_FORCE_ROOT": "1"},
    )
    try:
        wait()
    except BaseException:
        log.seek(0)
        sys.stderr.buffer.write(log.read())
        raise
    finally:
        worker.terminate()
        worker.wait(30)
    print("ok")


def wait():
    results = [add.delay(i, i) for i in range(50)]
    got = [r.get(timeout=60) for r in results]
    assert got == [2 * i for i in range(50)], got
    ran = collections.Counter(redis.Redis(**CLIENT).lrange(PREFIX + "ran", 0, -1))
    assert ran == {str(i).encode(): 1 for i in range(50)}, ran
    group = celery.group(add.s(100 + i, 1) for i in range(10))()
    assert group.get(timeout=60) == [101 + i for i in range(10)]
    if not CLUSTER:  # a chord has keys in several slots, and Celery has no hash tag for them
        chord = celery.chord([add.s(200, 1), add.s(300, 1)])(total.s())
        assert chord.get(timeout=60) == 502
    assert third_time.delay().get(timeout=60) == 2
    try:
        fail.delay().get(timeout=60)
    except ValueError as e:
        assert str(e) == "as asked", e
    else:
        raise AssertionError("fail() did not fail")


@app.task
def total(numbers):
    return sum(numbers)


if __name__ == "__main__":
    work() if sys.argv[-1] == "worker" else main()
