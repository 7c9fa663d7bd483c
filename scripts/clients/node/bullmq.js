// Checks BullMQ: each job runs once, in one of four workers, and its events arrive.
import { Queue, QueueEvents, Worker } from "bullmq";
import { assert, berth, eventually, key, main, numbers, tls } from "./berth.js";

const connection = { host: berth.host, port: berth.port, tls, maxRetriesPerRequest: null };
const options = { connection, prefix: `{${key("bull").replace(/:/g, ".")}}` }; // all keys of a queue in one slot

await main(async () => {
  const queue = new Queue("jobs", options);
  const events = new QueueEvents("jobs", options);
  const done = new Map();
  const complaints = [];
  const complain = (error) => complaints.push(error);
  const workers = numbers(4).map(() => new Worker("jobs", async (job) => {
    done.set(job.id, (done.get(job.id) ?? 0) + 1);
    if (job.name === "fails" && job.attemptsMade === 0) throw new Error("as asked");
    return job.data.n * 2;
  }, { ...options, concurrency: 5 }));
  for (const c of [queue, events, ...workers]) c.on("error", complain);
  const completed = new Map();
  events.on("completed", ({ jobId, returnvalue }) => completed.set(jobId, returnvalue));
  await events.waitUntilReady();

  const jobs = await queue.addBulk(numbers(200).map((n) => ({ name: "double", data: { n } })));
  await eventually("200 jobs", () => jobs.every((j) => completed.has(j.id)));
  for (const j of jobs) {
    assert.equal(done.get(j.id), 1);
    assert.equal(Number(completed.get(j.id)), j.data.n * 2);
  }
  const delayed = await Promise.all(numbers(5).map((n) => queue.add("later", { n }, { delay: 100 + 20 * n })));
  const retried = await queue.add("fails", { n: 21 }, { attempts: 2, backoff: 10 });
  assert.equal(Number(await retried.waitUntilFinished(events, 20000)), 42);
  await Promise.all(delayed.map((j) => j.waitUntilFinished(events, 20000)));
  for (const j of delayed) assert.equal(done.get(j.id), 1);
  assert.equal(done.get(retried.id), 2);

  await queue.upsertJobScheduler("tick", { every: 50, limit: 3 }, { name: "tick", data: { n: 1 } });
  await eventually("three ticks", () => [...completed.keys()].filter((id) => id.startsWith("repeat:tick")).length === 3);

  assert.equal(await queue.getWaitingCount(), 0);
  assert.equal(await queue.getFailedCount(), 0);
  await Promise.all(workers.map((w) => w.close()));
  await events.close();
  await queue.close();
  assert.deepEqual(complaints, []);
});
