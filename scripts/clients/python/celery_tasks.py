"""A Celery worker with berth as its broker and its store of results: each task runs once."""

import collections
import os
import subprocess
import sys
import tempfile

import celery
import redis

# Celery blocks for several queues at once: their keys have to lie in one slot, which the hash tag sees to.
HOST, PORT, PREFIX = sys.argv[1], sys.argv[2], "{" + sys.argv[4] + "}"
URL = f"redis://{HOST}:{PORT}/0"

app = celery.Celery("celery_tasks", broker=URL, backend=URL)
app.conf.update(
    broker_transport_options={"global_keyprefix": PREFIX},
    task_default_queue="tasks",
    broker_connection_retry=False,
    worker_hijack_root_logger=False,
)


@app.task
def add(a, b):
    redis.Redis(HOST, int(PORT)).rpush(PREFIX + "ran", a)
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


def outcome(result):
    """Celery does not wait until it is subscribed before it looks for a result, and may hear of it when it asks again."""
    for _ in range(20):
        try:
            return result.get(timeout=3)
        except celery.exceptions.TimeoutError:
            pass
    raise AssertionError("no result")


def wait():
    results = [add.delay(i, i) for i in range(50)]
    got = [outcome(r) for r in results]
    assert got == [2 * i for i in range(50)], got
    ran = collections.Counter(redis.Redis(HOST, int(PORT)).lrange(PREFIX + "ran", 0, -1))
    assert ran == {str(i).encode(): 1 for i in range(50)}, ran
    group = celery.group(add.s(100 + i, 1) for i in range(10))()
    assert outcome(group) == [101 + i for i in range(10)]
    if sys.argv[3] != "cluster":  # what a chord keeps lies in several slots, and Celery has no hash tag for that
        chord = celery.chord([add.s(200, 1), add.s(300, 1)])(total.s())
        assert outcome(chord) == 502
    assert outcome(third_time.delay()) == 2
    try:
        outcome(fail.delay())
    except ValueError as e:
        assert str(e) == "as asked", e
    else:
        raise AssertionError("fail() did not fail")


@app.task
def total(numbers):
    return sum(numbers)


if __name__ == "__main__":
    work() if sys.argv[-1] == "worker" else main()
