-- Trim one stream to its age and length. Consumer groups stay: a stream that has one is kept even when it is empty.
--
-- KEYS[1]  the stream
-- KEYS[2]  set of result queues from which a stream that is gone is taken, or "" for none
-- ARGV[1]  seconds that an entry is kept
-- ARGV[2]  entries kept at most
-- Return how many entries were removed.

local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'stream' then
  if kind == 'none' and KEYS[2] ~= '' then
    redis.call('SREM', KEYS[2], KEYS[1])
  end
  return 0
end
-- Entries' ids are the server's own time, in milliseconds.
local now = redis.call('TIME')
local oldest = (tonumber(now[1]) - tonumber(ARGV[1])) * 1000 + math.floor(tonumber(now[2]) / 1000)
local removed = redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', math.max(oldest, 0)))
  + redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[2])
if redis.call('XLEN', KEYS[1]) == 0 and #redis.call('XINFO', 'GROUPS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1])
  if KEYS[2] ~= '' then
    redis.call('SREM', KEYS[2], KEYS[1])
  end
end
return removed
