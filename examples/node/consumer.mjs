// Read results as one of a group, until Ctrl-C: node consumer.mjs shop shop-1
//
// None is lost: what is read and not acknowledged comes again, to this consumer when it starts, and to another one of the
// group when this one has been silent for a minute. So a result may be seen twice: lookup_id and task_id tell.
import Redis from "ioredis";

const [group, consumer] = process.argv.length > 3 ? process.argv.slice(2) : ["shop", "shop-1"];
const stream = "token-records:default";
const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379/0");

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (stopping = true));

try {
  await redis.xgroup("CREATE", stream, group, "0", "MKSTREAM");
} catch (error) {
  if (!String(error).includes("BUSYGROUP")) throw error; // it is there already
}

/** Yours: write it to a database. */
function handle(result) {
  console.log(`${result.lookup_id}: ${result.status} ${result.token?.brand ?? ""}`.trimEnd());
}

async function take(entries) {
  for (const [id, fields] of entries) {
    if (fields !== null) handle(JSON.parse(fields[fields.indexOf("result") + 1]));
    await redis.xack(stream, group, id);
  }
}

// First what this consumer had in hand when it ended the last time, then what is new.
for (let from = "0"; !stopping; ) {
  const found = await redis.xreadgroup("GROUP", group, consumer, "COUNT", 100, "BLOCK", 1000, "STREAMS", stream, from);
  const entries = found?.[0][1] ?? [];
  await take(entries);
  if (from === "0" && entries.length === 0) from = ">";
  if (from === ">" && entries.length === 0) {
    // What a consumer of the group that is gone had in hand.
    const [, claimed] = await redis.xautoclaim(stream, group, consumer, 60_000, "0", "COUNT", 100);
    await take(claimed);
  }
}
redis.disconnect();
