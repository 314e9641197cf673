// A shopper waits: node checkout.mjs OPAY_TOKEN_visa
import { randomUUID } from "node:crypto";
import Redis from "ioredis";
import { answer, message, words } from "./lookup.mjs";

const url = process.env.REDIS_URL ?? "redis://127.0.0.1:6379/0";
const timeout = 10_000;
// A result queue for this one answer; it expires by itself.
const replyTo = `reply.${randomUUID()}`;
const deadline = new Date(Date.now() + timeout).toISOString();
const { queue, entry } = message("opay", [
  { opay_token: process.argv[2] ?? "OPAY_TOKEN_visa", reply_to: replyTo, deadline },
]);

const redis = new Redis(url);
await redis.lpush(queue, entry);
redis.disconnect();

const result = await answer(url, replyTo, timeout);
console.log(words(result));
process.exitCode = result?.status === "found" ? 0 : 1;
