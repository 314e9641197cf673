-- Take over claims whose leases ran out: they go back to their queues, with one death counted.
--
-- KEYS[1]  leases
-- ARGV[1]  how many at most
-- ARGV[2]  milliseconds that Redis' clock can show at most; if it shows more, it was set, and all leases seem to have run out
--
-- Beside KEYS it uses the claims (CLAIM .. id) whose leases ran out, and their queues' lists of released ones (GIVEN_BACK .. queue).
-- Return how many leases had run out; -1 if that cannot be judged.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] and now > tonumber(ARGV[2]) then
  return -1
end
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(expired) do
  local key = CLAIM .. id
  redis.call('ZREM', KEYS[1], id)
  local queue = redis.call('HGET', key, 'queue')
  if queue then
    redis.call('HINCRBY', key, 'deaths', 1)
    redis.call('RPUSH', GIVEN_BACK .. queue, id)
  end
end
return #expired
