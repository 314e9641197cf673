-- Renew a worker's leases, and give back the claims of workers whose leases ran out.
--
-- KEYS[1]  leases
-- ARGV[1]  worker
-- ARGV[2]  milliseconds that a lease holds
-- then the ids of the claims that the worker holds
--
-- Answers how many claims of dead workers were given back, then the ids that the worker does not hold any more.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expiry = string.format('%.0f', now + tonumber(ARGV[2]))
local answer = {0}
for i = 3, #ARGV do
  local held = redis.call('HGET', 'lookup:claim:' .. ARGV[i], 'worker') == ARGV[1]
  if held and redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', expiry, ARGV[i])
  else
    answer[#answer + 1] = ARGV[i]
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
  local key = 'lookup:claim:' .. id
  redis.call('ZREM', KEYS[1], id)
  if redis.call('EXISTS', key) == 1 then
    redis.call('HINCRBY', key, 'deaths', 1)
    redis.call('RPUSH', 'lookup:given-back:' .. redis.call('HGET', key, 'queue'), id)
    answer[1] = answer[1] + 1
  end
end
return answer
