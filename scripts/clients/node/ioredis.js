// Checks ioredis, as a single client and as a cluster client.
import { createHash } from "node:crypto";
import Redis from "ioredis";
import { assert, berth, blocked, eventually, key, large, library, main, numbers, tls } from "./berth.js";

async function pipelines(r, tag) {
  const set = r.pipeline();
  for (const i of numbers(1000)) set.set(key(`${tag}:p${i}`), i);
  assert.deepEqual(await set.exec(), numbers(1000).map(() => [null, "OK"]));
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
  assert.deepEqual(await r.multi().set(a, 1).incr(a).exec(), [[null, "OK"], [null, 2]]);
  await r.watch(a);
  await other.set(a, "other");
  assert.equal(await r.multi().set(b, "never").exec(), null);
  assert.equal(await r.exists(b), 0);
  await r.watch(a);
  assert.deepEqual(await r.multi().set(b, "now").get(a).exec(), [[null, "OK"], [null, "other"]]);
}

async function blocking(r, other, tag) {
  const [q, to] = [key(`{${tag}}:q`), key(`{${tag}}:to`)];
  assert.equal(await r.blpop(q, 0.05), null);
  const push = async () => {
    await eventually("a blocked client", async () => blocked(await other.info("clients")) > 0);
    await other.rpush(q, "x");
  };
  assert.deepEqual((await Promise.all([r.blpop(q, 0), push()]))[0], [q, "x"]);
  assert.equal((await Promise.all([r.blmove(q, to, "LEFT", "RIGHT", 0), push()]))[0], "x");
  assert.deepEqual(await r.lrange(to, 0, -1), ["x"]);
}

async function streams(r, other, tag) {
  const s = key(`${tag}:s`);
  assert.equal(await r.xgroup("CREATE", s, "g", "$", "MKSTREAM"), "OK");
  await assert.rejects(r.xgroup("CREATE", s, "g", "$"), /^ReplyError: BUSYGROUP/);
  const add = async () => {
    await eventually("a blocked client", async () => blocked(await other.info("clients")) > 0);
    return other.xadd(s, "*", "f", "v");
  };
  const [read, id] = await Promise.all([r.xreadgroup("GROUP", "g", "c", "BLOCK", 0, "STREAMS", s, ">"), add()]);
  assert.deepEqual(entries(read), [[s, [[id, ["f", "v"]]]]]);
  assert.equal((await r.xpending(s, "g"))[0], 1);
  assert.equal(await r.xack(s, "g", id), 1);
  const [next, id2] = await Promise.all([r.xread("BLOCK", 0, "STREAMS", s, "$"), add()]);
  assert.deepEqual(entries(next), [[s, [[id2, ["f", "v"]]]]]);
  assert.equal(await r.xread("BLOCK", 20, "STREAMS", s, "$"), null);
}

// entries converts a reply of XREAD to its form in RESP2. In RESP3 it is a map by stream.
const entries = (reply) => (Array.isArray(reply) ? reply : reply instanceof Map ? [...reply] : Object.entries(reply));

async function pubsub(r, subscriber, tag) {
  const channel = key(`${tag}:news`);
  const heard = [];
  subscriber.on("message", (c, text) => heard.push(["message", c, text]));
  subscriber.on("pmessage", (p, c, text) => heard.push(["pmessage", c, text]));
  assert.equal(await subscriber.subscribe(channel), 1);
  assert.equal(await subscriber.psubscribe(channel + "*"), 2);
  await r.publish(channel, "hello");
  await eventually("both messages", () => heard.length === 2);
  assert.deepEqual(heard, [["message", channel, "hello"], ["pmessage", channel, "hello"]]);
  assert.equal(await subscriber.unsubscribe(channel), 1);
  assert.equal(await subscriber.punsubscribe(channel + "*"), 0);
  assert.equal(await subscriber.set(key(`${tag}:after`), "v"), "OK");
}

async function shardChannels(r, subscriber, tag) {
  const heard = [];
  subscriber.on("smessage", (c, text) => heard.push([c, text]));
  const channels = numbers(6).map((i) => key(`${tag}:shard${i}`));
  for (const c of channels) await subscriber.ssubscribe(c);
  for (const c of channels) await r.spublish(c, "hello");
  await eventually("shard messages", () => heard.length === channels.length);
  assert.deepEqual(heard.sort(), channels.map((c) => [c, "hello"]).sort());
  await subscriber.sunsubscribe(...channels.slice(0, 1));
}

async function scripts(r, tag) {
  const k = key(`${tag}:script`);
  const lua = `return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${key(tag)}`;
  const sha = await r.script("LOAD", lua);
  assert.equal(await r.evalsha(sha, 1, k, 5), 5);
  assert.deepEqual(await r.script("EXISTS", sha, "f".repeat(40)), [1, 0]);
  await assert.rejects(r.evalsha("0".repeat(40), 1, k), /NOSCRIPT/);
  r.defineCommand("add", { numberOfKeys: 1, lua: lua + " never loaded" }); // EVALSHA, then EVAL after NOSCRIPT
  assert.equal(await r.add(k, 2), 7);
  const others = numbers(8).map((i) => key(`${tag}:script${i}`)); // on all nodes
  const pipeline = r.pipeline();
  for (const other of others) pipeline.add(other, 3);
  assert.deepEqual(await pipeline.exec(), others.map(() => [null, 3]));
  const once = lua + " evaluated once";
  assert.equal(await r.eval(once, 1, k, 1), 8);
  const onceSHA = createHash("sha1").update(once).digest("hex");
  for (const other of others) {
    assert.deepEqual(await r.multi().add(other, 4).evalsha(onceSHA, 1, other, 5).exec(), [[null, 7], [null, 12]]);
  }
  const { name, call, code } = library(tag);
  assert.equal(await r.function("LOAD", "REPLACE", code), name);
  for (const i of numbers(8)) assert.equal(await r.fcall(call, 1, key(`${tag}:f${i}`), i), i);
  assert.equal(await r.function("DELETE", name), "OK");
}

async function scan(r, tag) {
  const seen = new Set();
  const match = key(`${tag}:p*`);
  for await (const page of r.scanStream({ match, count: 100 })) for (const k of page) seen.add(k);
  assert.equal(seen.size, 1000);
  assert.equal((await r.keys(match)).length, 1000);
  assert.equal(await r.unlink(...seen), 1000);
}

async function killed(r, tag) {
  const old = await r.client("ID");
  const again = new Promise((done) => r.once("ready", done));
  assert.equal(await r.client("KILL", "ID", old, "SKIPME", "no"), 1);
  await again;
  assert.equal(await r.set(key(`${tag}:k`), "v"), "OK");
  assert.ok((await r.client("ID")) > old, "another connection");
}

async function single(protocol) {
  const tag = `resp${protocol}`;
  const options = { host: berth.host, port: berth.port, tls, protocol, connectionName: tag };
  const clients = numbers(3).map(() => new Redis(options));
  const [r, other, subscriber] = clients;
  for (const c of clients) c.on("error", (error) => { throw error; });
  assert.equal(await r.client("GETNAME"), tag);
  await pipelines(r, tag);
  await largeValue(r, tag);
  await transactions(r, other, tag);
  await blocking(r, other, tag);
  await streams(r, other, tag);
  await pubsub(r, subscriber, tag);
  await shardChannels(r, subscriber, tag);
  await scripts(r, tag);
  await scan(r, tag);
  await killed(r, tag);
  for (const c of clients) assert.equal(await c.quit(), "OK");
}

async function asCluster() {
  const options = [[{ host: berth.host, port: berth.port }], { redisOptions: { tls } }];
  const r = new Redis.Cluster(...options);
  const subscriber = new Redis.Cluster(...options);
  r.on("error", (error) => { throw error; });
  assert.equal(await r.set(key("cluster"), "v"), "OK");
  assert.deepEqual(r.nodes("master").map((n) => n.options.port), [berth.port]);
  await pipelines(r, "cluster");
  await largeValue(r, "cluster");
  assert.equal(await r.blpop(key("none"), 0.05), null);
  await pubsubOverCluster(r, subscriber);
  await scripts(r, "cluster");
  await scan(r.nodes("master")[0], "cluster");
  for (const c of [r, subscriber]) assert.equal(await c.quit(), "OK");
}

async function pubsubOverCluster(r, subscriber) {
  const heard = [];
  subscriber.on("message", (_, text) => heard.push(text));
  await subscriber.subscribe(key("c:news"));
  await r.publish(key("c:news"), "hello");
  await eventually("a message", () => heard.length === 1);
}

await main(async () => {
  await single(2);
  await single(3);
  if (berth.cluster) await asCluster();
});
