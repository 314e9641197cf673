-- End claims, and release claims. fence.lua comes before it.
--
-- KEYS[1]  leases
-- ARGV[1]  worker
-- ARGV[2]  how many claims are ended
-- then for each of them: claim id, claim id of the entry that goes on with it ("": none), number of lookups that were
--   published and of lookups that go on, then bucket and member of the fence of each
-- then the ids of claims that are released
-- Beside KEYS it uses these claims (CLAIM .. id), and the list of released ones (GIVEN_BACK .. queue) of the queue that each says.
--
-- An ended claim is gone, also where another worker holds it now: its results are out. Where they are not, because they went with a primary
-- that was replaced, or what goes on with it did, it goes back to be worked on again. A claim is released only by the
-- worker that holds it, to the front of its queue. Return how many went back because something is missing.

local function is_out(bucket, member)
  return seek(today, bucket, member) == true or seek(today - 1, bucket, member) == true
    or seek(today + 1, bucket, member) == true
end

local at = 3
local function are_out(count)
  local out = true
  for _ = 1, count do
    out = out and is_out(tonumber(ARGV[at]), ARGV[at + 1])
    at = at + 2
  end
  return out
end

local function give_back(id)
  local key = CLAIM .. id
  if redis.call('HGET', key, 'worker') == ARGV[1] and redis.call('ZREM', KEYS[1], id) == 1 then
    redis.call('RPUSH', GIVEN_BACK .. redis.call('HGET', key, 'queue'), id)
    return 1
  end
  return 0
end

local missing = 0
for _ = 1, tonumber(ARGV[2]) do
  local id, deferral, published, deferred = unpack(ARGV, at, at + 3)
  at = at + 4
  local over = are_out(tonumber(published))
  local went_on = are_out(tonumber(deferred))
  if over and (went_on or redis.call('EXISTS', CLAIM .. deferral) == 1) then
    redis.call('ZREM', KEYS[1], id)
    redis.call('UNLINK', CLAIM .. id)
  else
    missing = missing + give_back(id)
  end
end
for i = at, #ARGV do
  give_back(ARGV[i])
end
return missing
