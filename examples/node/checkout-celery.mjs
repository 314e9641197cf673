// The same through celery-node: node checkout-celery.mjs OPAY_TOKEN_visa
import { randomUUID } from "node:crypto";
import celery from "celery-node";
import { answer, words } from "./lookup.mjs";

const url = process.env.REDIS_URL ?? "redis://127.0.0.1:6379/0";
const timeout = 10_000;
const replyTo = `reply.${randomUUID()}`;
const deadline = new Date(Date.now() + timeout).toISOString();
const request = { opay_token: process.argv[2] ?? "OPAY_TOKEN_visa", reply_to: replyTo, deadline };

// The third argument is the queue; the second, a result backend, is asked for and not used: results come in a stream.
const client = celery.createClient(url, url, "lookup.opay.interactive");
client.createTask("lookup.opay").applyAsync([], { requests: [request] });

const result = await answer(url, replyTo, timeout);
await client.disconnect();
console.log(words(result));
process.exitCode = result?.status === "found" ? 0 : 1;
