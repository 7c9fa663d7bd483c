// The common code of the programs in this folder: how to connect to berth, and helpers for checks.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const [host, port, kind, prefix, ca, cert, certKey] = process.argv.slice(2);
const read = (file) => (file ? readFileSync(file) : undefined);
export const berth = { host, port: Number(port), cluster: kind === "cluster" };
export const tls = ca ? { ca: read(ca), cert: read(cert), key: read(certKey) } : undefined; // options of node:tls
export const key = (name) => prefix + name;
export const large = "0123456789abcdef".repeat(1 << 18); // 4 MB
export const numbers = (n) => Array.from({ length: n }, (_, i) => i);
export { assert };

// eventually polls a condition that another client must make true.
export async function eventually(what, check) {
  for (let i = 0; i < 2000; i++) {
    if (await check()) return;
    await new Promise((done) => setTimeout(done, 5));
  }
  assert.fail(`waited for ${what}`);
}

// blocked returns from INFO how many clients of berth wait in a blocking command.
export const blocked = (info) => Number(/blocked_clients:(\d+)/.exec(info)[1]);

// library returns a FUNCTION library with one function, which adds to its key.
export function library(tag) {
  const name = key(tag).replace(/\W/g, "_");
  const call = `${name}_f`;
  const code = `#!lua name=${name}
redis.register_function('${call}', function(k, a) return redis.call('INCRBY', k[1], a[1]) end)`;
  return { name, call, code };
}

// main runs a program and prints "ok" if it succeeds. A promise that rejects without a handler also
// makes the program fail.
export async function main(program) {
  process.on("unhandledRejection", (error) => { throw error; });
  await program();
  console.log("ok");
}
