-- Let a claim wait until it is due; a new one, with its entry, or one that a worker holds.
--
-- KEYS[1]  leases
-- KEYS[2]  delayed claims of its queue, by due time
-- KEYS[3]  the claim
-- ARGV[1]  claim id
-- ARGV[2]  milliseconds from now until it is due
-- ARGV[3]  queue
-- ARGV[4]  entry of a new claim; absent for one that is held
--
-- Return 0 where there was nothing to do: another worker holds it, or it was put before and the answer got lost.

local key = KEYS[3]
if ARGV[4] then
  if redis.call('EXISTS', key) == 1 then
    return 0
  end
  redis.call('HSET', key, 'queue', ARGV[3], 'entry', ARGV[4], 'deferred', 1)
elseif redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  -- No worker worked on it: it was neither seen nor taken.
  redis.call('HINCRBY', key, 'taken', -1)
  redis.call('HDEL', key, 'seen')
else
  return 0
end
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[1])
return 1
