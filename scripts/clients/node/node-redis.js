// Checks node-redis, as a single client and as a cluster client.
import { createClient, createCluster, WatchError } from "redis";
import { assert, berth, blocked, eventually, key, large, library, main, numbers, tls } from "./berth.js";

async function pipelines(r, tag) {
  // node-redis sends all commands of one turn of the event loop in one write.
  const said = await Promise.all(numbers(1000).map((i) => r.set(key(`${tag}:p${i}`), i)));
  assert.deepEqual(said, numbers(1000).map(() => "OK"));
  const got = await Promise.all(numbers(1000).map((i) => r.get(key(`${tag}:p${i}`))));
  assert.deepEqual(got, numbers(1000).map(String));
}

async function largeValue(r, tag) {
  assert.equal(await r.set(key(`${tag}:large`), large), "OK");
  assert.ok((await r.get(key(`${tag}:large`))) === large, "4 MB come back as they were");
  assert.equal(await r.del(key(`${tag}:large`)), 1);
}

async function transactions(r, other, tag) {
  const [a, b] = [key(`{${tag}}:a`), key(`{${tag}}:b`)];
  assert.deepEqual(await r.multi().set(a, 1).incr(a).exec(), ["OK", 2]);
  await r.watch(a);
  await other.set(a, "other");
  await assert.rejects(r.multi().set(b, "never").exec(), WatchError);
  assert.equal(await r.exists(b), 0);
  await r.watch(a);
  assert.deepEqual(await r.multi().set(b, "now").get(a).exec(), ["OK", "other"]);
}

async function blocking(r, other, tag) {
  const [q, to] = [key(`{${tag}}:q`), key(`{${tag}}:to`)];
  assert.equal(await r.blPop(q, 0.05), null);
  const push = async () => {
    await eventually("a blocked client", async () => blocked(await other.info("clients")) > 0);
    await other.rPush(q, "x");
  };
  assert.deepEqual({ ...(await Promise.all([r.blPop(q, 0), push()]))[0] }, { key: q, element: "x" });
  assert.equal((await Promise.all([r.blMove(q, to, "LEFT", "RIGHT", 0), push()]))[0], "x");
  assert.deepEqual(await r.lRange(to, 0, -1), ["x"]);
}

async function streams(r, other, tag) {
  const s = key(`${tag}:s`);
  assert.equal(await r.xGroupCreate(s, "g", "$", { MKSTREAM: true }), "OK");
  await assert.rejects(r.xGroupCreate(s, "g", "$"), /BUSYGROUP/);
  const add = async () => {
    await eventually("a blocked client", async () => blocked(await other.info("clients")) > 0);
    return other.xAdd(s, "*", { f: "v" });
  };
  const [read, id] = await Promise.all([r.xReadGroup("g", "c", { key: s, id: ">" }, { BLOCK: 0 }), add()]);
  assert.deepEqual(read.map((x) => [x.name, x.messages.map((m) => m.id)]), [[s, [id]]]);
  assert.equal((await r.xPending(s, "g")).pending, 1);
  assert.equal(await r.xAck(s, "g", id), 1);
  const [next, id2] = await Promise.all([r.xRead({ key: s, id: "$" }, { BLOCK: 0 }), add()]);
  assert.deepEqual(next.map((x) => [x.name, x.messages.map((m) => m.id)]), [[s, [id2]]]);
  assert.equal(await r.xRead({ key: s, id: "$" }, { BLOCK: 20 }), null);
}

async function pubsub(r, subscriber, tag) {
  const heard = [];
  const hear = (text, channel) => heard.push([channel, text]);
  const channel = key(`${tag}:news`);
  await subscriber.subscribe(channel, hear);
  await subscriber.pSubscribe(channel + "*", hear);
  const shards = numbers(6).map((i) => key(`${tag}:shard${i}`));
  for (const c of shards) await subscriber.sSubscribe(c, hear);
  await r.publish(channel, "hello");
  for (const c of shards) await r.sPublish(c, "hello");
  await eventually("all messages", () => heard.length === 8);
  assert.deepEqual(heard.sort(), [channel, channel, ...shards].map((c) => [c, "hello"]).sort());
  await subscriber.unsubscribe(channel);
  await subscriber.pUnsubscribe(channel + "*");
  await subscriber.sUnsubscribe(shards);
  assert.equal(String(await subscriber.set(key(`${tag}:after`), "v")), "OK");
}

async function scripts(r, tag) {
  const k = key(`${tag}:script`);
  const lua = `return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${key(tag)}`;
  const sha = await r.scriptLoad(lua);
  const args = (n) => ({ keys: [k], arguments: [String(n)] });
  assert.equal(await r.evalSha(sha, args(5)), 5);
  await assert.rejects(r.evalSha("0".repeat(40), args(1)), /NOSCRIPT/);
  assert.equal(await r.eval(lua + " never loaded", args(2)), 7);
  const { name, call, code } = library(tag);
  assert.equal(await r.functionLoad(code, { REPLACE: true }), name);
  for (const i of numbers(8)) {
    assert.equal(await r.fCall(call, { keys: [key(`${tag}:f${i}`)], arguments: [String(i)] }), i);
  }
  assert.equal(await r.functionDelete(name), "OK");
}

async function scan(r, tag) {
  const seen = new Set();
  for await (const page of r.scanIterator({ MATCH: key(`${tag}:p*`), COUNT: 100 })) for (const k of page) seen.add(k);
  assert.equal(seen.size, 1000);
  assert.equal(await r.unlink([...seen]), 1000);
}

// killed expects the error with which node-redis reports the lost connection before it reconnects.
async function killed(r, tag) {
  const old = await r.clientId();
  const lost = new Promise((done) => r.once("error", done));
  const again = new Promise((done) => r.once("ready", done));
  r.removeListener("error", unexpected);
  assert.equal(await r.sendCommand(["CLIENT", "KILL", "ID", String(old), "SKIPME", "no"]), 1);
  await Promise.all([lost, again]);
  r.on("error", unexpected);
  assert.equal(await r.set(key(`${tag}:k`), "v"), "OK");
  assert.ok((await r.clientId()) > old, "another connection");
}

const secure = tls && { tls: true, ...tls };
const socket = { host: berth.host, port: berth.port, ...secure };
const unexpected = (error) => { throw error; };

async function single(RESP) {
  const tag = `resp${RESP}`;
  const options = { socket, RESP, name: tag, database: berth.cluster ? 0 : 1 };
  const clients = numbers(3).map(() => createClient(options).on("error", unexpected));
  const [r, other, subscriber] = clients;
  await Promise.all(clients.map((c) => c.connect()));
  assert.equal(await r.clientGetName(), tag);
  await pipelines(r, tag);
  await largeValue(r, tag);
  await transactions(r, other, tag);
  await blocking(r, other, tag);
  await streams(r, other, tag);
  await pubsub(r, subscriber, tag);
  await scripts(r, tag);
  await scan(r, tag);
  await killed(r, tag);
  await Promise.all(clients.map((c) => c.close()));
}

async function asCluster(RESP) {
  const tag = `cluster${RESP}`;
  const r = createCluster({ rootNodes: [{ socket }], defaults: { socket: secure }, RESP }).on("error", unexpected);
  await r.connect();
  assert.deepEqual(r.masters.map((m) => m.port), [berth.port]);
  await pipelines(r, tag);
  await largeValue(r, tag);
  const a = key(`{${tag}}:a`);
  assert.deepEqual(await r.multi().set(a, 1).incr(a).exec(), ["OK", 2]);
  const heard = [];
  await r.subscribe(key(`${tag}:news`), (text) => heard.push(text));
  await r.sSubscribe(key(`${tag}:shard`), (text) => heard.push(text));
  await r.publish(key(`${tag}:news`), "hello");
  await r.sPublish(key(`${tag}:shard`), "hello");
  await eventually("both messages", () => heard.length === 2);
  await r.close();
}

await main(async () => {
  await single(2);
  await single(3);
  if (berth.cluster) {
    await asCluster(2);
    await asCluster(3);
  }
});
