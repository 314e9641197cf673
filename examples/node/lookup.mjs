// Ask, and wait for the one answer: with Redis alone, no Celery client.
import { randomUUID } from "node:crypto";
import Redis from "ioredis";

/**
 * The entry to LPUSH: a Celery message of one or more requests to one provider.
 * @param {"opay" | "afterpay"} provider
 * @param {object[]} requests see docs/schemas/<provider>-request.schema.json
 */
export function message(provider, requests, lane = "interactive", id = randomUUID()) {
  const body = [[], { requests }, { callbacks: null, errbacks: null, chain: null, chord: null }];
  const queue = `lookup.${provider}.${lane}`;
  const entry = {
    body: Buffer.from(JSON.stringify(body)).toString("base64"),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    headers: { lang: "js", task: `lookup.${provider}`, id },
    properties: {
      delivery_tag: randomUUID(),
      delivery_info: { exchange: "", routing_key: queue },
      body_encoding: "base64",
    },
  };
  return { queue, id, entry: JSON.stringify(entry) };
}

/** The first result that is written to a result queue; null where none comes in time. */
export async function answer(url, replyTo, timeout) {
  // XREAD holds its connection until there is something, so it has one of its own.
  const redis = new Redis(url);
  try {
    const found = await redis.xread("COUNT", 1, "BLOCK", timeout, "STREAMS", `token-records:${replyTo}`, "0");
    if (found === null) return null;
    const fields = found[0][1][0][1];
    return JSON.parse(fields[fields.indexOf("result") + 1]);
  } finally {
    redis.disconnect();
  }
}

/** What an operator of a till would want to read of it. */
export function words(result) {
  if (result === null) return "no answer in time: let the shopper enter the card again";
  if (result.status === "not_found") return "there is no such card any more";
  if (result.status === "failed") return `failed: ${result.error.category}`;
  return `${result.token.brand} •••• ${result.token.last4}`;
}
