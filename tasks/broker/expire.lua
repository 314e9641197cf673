-- Give back claims of workers whose leases ran out, and count that against the claims.
--
-- KEYS[1]  leases
-- ARGV[1]  how many at most
--
-- Answers how many leases had run out.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(expired) do
  local key = 'lookup:claim:' .. id
  redis.call('ZREM', KEYS[1], id)
  local queue = redis.call('HGET', key, 'queue')
  if queue then
    redis.call('HINCRBY', key, 'deaths', 1)
    redis.call('RPUSH', 'lookup:given-back:' .. queue, id)
  end
end
return #expired
