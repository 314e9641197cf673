-- Permits to call one account, each for a slot of its own: the fleet together keeps to a rate.
--
-- KEYS[1]  when the next permit of each part is free, in microseconds
-- ARGV[1]  'bulk' or 'interactive'
-- ARGV[2]  permits wanted
-- ARGV[3]  permits a second for bulk, ARGV[4] kept for interactive
-- ARGV[5]  how far ahead permits are given, in microseconds; ARGV[6] and at most, for either lane
-- Returns the microseconds after which to ask again (0 where all was given), then for each permit those until its moment.
--
-- Interactive lookups have their own part, and whatever of the other is free sooner. The clock of Redis may go back, as when
-- a host takes over that is behind: a moment further ahead than a permit can have made it counts as now.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local horizon = now + tonumber(ARGV[5])
local rates = {bulk = tonumber(ARGV[3]), interactive = tonumber(ARGV[4])}
local mine = ARGV[1] == 'bulk' and {'bulk'} or {'interactive', 'bulk'}
local free = {}
for _, part in ipairs(mine) do
  if rates[part] > 0 then
    local moment = tonumber(redis.call('HGET', KEYS[1], part) or 0)
    local possible = moment > now and moment <= now + tonumber(ARGV[6]) + 1000000 / rates[part]
    free[part] = possible and moment or now
  end
end

local answer = {0}
for _ = 1, tonumber(ARGV[2]) do
  local part, at
  for name, moment in pairs(free) do
    if not at or moment < at then
      part, at = name, moment
    end
  end
  if not at or at > horizon then
    answer[1] = at and at - horizon or 1000000
    break
  end
  answer[#answer + 1] = at - now
  free[part] = at + 1000000 / rates[part]
end
for part, moment in pairs(free) do
  redis.call('HSET', KEYS[1], part, string.format('%.0f', moment))
end
redis.call('EXPIRE', KEYS[1], 3600)
return answer
