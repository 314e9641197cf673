-- End claims, and give claims back.
--
-- KEYS[1]  leases
-- ARGV[1]  worker
-- ARGV[2]  how many of the following ids are ended; the rest are given back
-- then claim ids
--
-- An ended claim is gone, whoever holds it now: its results are out. One is given back only by the worker that holds
-- it, to the front of its queue. Answers how many were given back.

local ended = tonumber(ARGV[2])
local back = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local key = 'lookup:claim:' .. id
  if i - 2 <= ended then
    redis.call('ZREM', KEYS[1], id)
    redis.call('UNLINK', key)
  elseif redis.call('HGET', key, 'worker') == ARGV[1] and redis.call('ZREM', KEYS[1], id) == 1 then
    redis.call('RPUSH', 'lookup:given-back:' .. redis.call('HGET', key, 'queue'), id)
    back = back + 1
  end
end
return back
