-- Release the claims that a worker has and does not know of: it claimed them, and the answer did not arrive.
--
-- KEYS[1]  leases: claim id → when its lease runs out
-- ARGV[1]  worker
-- then the ids of the claims that it knows of
-- Beside KEYS it uses the claims (CLAIM .. id) that have leases, and their queues' lists of released ones (GIVEN_BACK .. queue).
--
-- Return how many went back to the front of their queues.

local known = {}
for i = 2, #ARGV do
  known[ARGV[i]] = true
end
local back = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local found = redis.call('HMGET', CLAIM .. id, 'worker', 'queue')
  if found[1] == ARGV[1] and found[2] and not known[id] then
    redis.call('ZREM', KEYS[1], id)
    redis.call('RPUSH', GIVEN_BACK .. found[2], id)
    back = back + 1
  end
end
return back
