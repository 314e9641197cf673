-- Renew a worker's leases.
--
-- KEYS[1]  leases
-- then the claims that the worker holds
-- ARGV[1]  worker
-- ARGV[2]  milliseconds that a lease holds
-- then their ids
--
-- Return the ids that the worker does not hold any more.

-- A script whose first write may take memory is refused when Redis is full. This one takes none.
redis.call('ZREM', KEYS[1], '')
local time = redis.call('TIME')
local expiry = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2]))
local lost = {}
for i = 3, #ARGV do
  local held = redis.call('HGET', KEYS[i - 1], 'worker') == ARGV[1]
  if held and redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', expiry, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
