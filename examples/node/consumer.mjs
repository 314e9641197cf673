// Read results as one of a group, until Ctrl-C: node consumer.mjs shop shop-1
//
// None is lost: what is read and not acknowledged comes again, to this consumer when it starts, and to another one of the
// group when this one has been silent for a minute. So a result may be seen twice: lookup_id and task_id tell.
import Redis from "ioredis";

const [group, consumer] = process.argv.length > 3 ? process.argv.slice(2) : ["shop", "shop-1"];
const stream = "token-records:default";
// Without a limit of retries: while Redis is away, a read waits until it is back.
const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379/0", { maxRetriesPerRequest: null });
let away = false;
redis.on("error", (error) => {
  if (!away) console.error(`Redis is away: ${error.message || error.code}`);
  away = true;
});
redis.on("ready", () => (away = false));

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (stopping = true));

async function join() {
  try {
    await redis.xgroup("CREATE", stream, group, "0", "MKSTREAM");
  } catch (error) {
    if (!String(error).includes("BUSYGROUP")) throw error; // it is there already
  }
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

async function read(from) {
  const found = await redis.xreadgroup("GROUP", group, consumer, "COUNT", 100, "BLOCK", 1000, "STREAMS", stream, from);
  const entries = found?.[0][1] ?? [];
  await take(entries);
  if (entries.length > 0) return from;
  if (from === ">") {
    // What a consumer of the group that is gone had in hand.
    const [, claimed] = await redis.xautoclaim(stream, group, consumer, 60_000, "0", "COUNT", 100);
    await take(claimed);
  }
  return ">";
}

await join();
// First what this consumer had in hand when it ended the last time, then what is new.
for (let from = "0"; !stopping; ) {
  try {
    from = await read(from);
  } catch (error) {
    if (!String(error).includes("NOGROUP")) throw error;
    await join(); // Redis has lost its data
  }
}
redis.disconnect();
