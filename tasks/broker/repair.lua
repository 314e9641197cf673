-- Shorten what would last too long because Redis' clock went back, or another server has taken over whose clock is behind.
--
-- KEYS[1]  leases
-- KEYS[2]  clock: queue → Redis' time, in milliseconds, when this script last saw it
-- then the delayed claims of each queue
-- ARGV[1]  milliseconds that a lease holds at most
-- ARGV[2]  milliseconds by which the clock may go back before delays are shortened
-- then the queues' names
--
-- A lease that holds for longer than it can is shortened to what it can: its worker renews it, or is dead. A delay may be
-- of any length, so all of a queue are shortened by what the clock went back.
-- Return the milliseconds by which it went back, 0 where it did not.

-- A script whose first write may take memory is refused when Redis is full. This one takes none.
redis.call('ZREM', KEYS[1], '')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = string.format('%.0f', now + tonumber(ARGV[1]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. latest, '+inf')) do
  redis.call('ZADD', KEYS[1], latest, id)
end

local back = 0
for i = 3, #ARGV do
  local queue, delayed = ARGV[i], KEYS[i]
  local seen = tonumber(redis.call('HGET', KEYS[2], queue) or 0)
  local gone = seen - now
  if gone > tonumber(ARGV[2]) then
    back = math.max(back, gone)
    local found = redis.pcall('ZRANGE', delayed, 0, -1, 'WITHSCORES')
    if not found.err then
      for at = 1, #found, 2 do
        redis.call('ZADD', delayed, string.format('%.0f', found[at + 1] - gone), found[at])
      end
    end
  end
  -- Once a second is enough, however many workers look.
  if gone > tonumber(ARGV[2]) or gone < -1000 then
    redis.call('HSET', KEYS[2], queue, string.format('%.0f', now))
  end
end
return back
