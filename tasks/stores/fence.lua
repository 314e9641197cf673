-- Fences: the lookups, by task id and index, whose result is out. What comes before the scripts that need them.
--
-- A lookup is a whole number of 64 bits (member), in a set that it shares with those of the same 32 bits (bucket), both
-- of a hash of its task id and index. A small set of whole numbers takes Redis 8 bytes each. Sets are named by the day of
-- their fences, and kept until a day after its end: a lookup is looked for in today's, yesterday's, and, as the clock may
-- have been set, tomorrow's. A set that is full is left as it is, and what belongs there goes to the next level, of twice
-- as many sets: so they stay small at any volume, and few where there are few lookups. Their names (FENCE .. day, level and
-- bucket) depend on the day by Redis' clock and on what is full, so they are not among KEYS.

local DAY, FULL, BUCKETS = 86400, 512, 512
local now = tonumber(redis.call('TIME')[1])
local today = math.floor(now / DAY)

-- Whether it is among a day's; if not, the set where it belongs, and how many are in there.
local function seek(day, bucket, member)
  local level = 0
  while true do
    local key = FENCE .. day .. ':' .. level .. ':' .. bucket % (BUCKETS * 2 ^ level)
    if redis.call('SISMEMBER', key, member) == 1 then
      return true
    end
    local held = redis.pcall('SCARD', key)
    if type(held) == 'table' then
      -- Rights as they were before this release: what the worker's user may do for that takes longer.
      held = #redis.call('SMEMBERS', key)
    end
    if held < FULL then
      return false, key, held
    end
    level = level + 1
  end
end

-- Whether it was published. The set of its task id alone is of the release before; see publish.lua.
local function is_published(task_key, index, bucket, member)
  return redis.call('SISMEMBER', task_key, index) == 1 or seek(today, bucket, member)
    or seek(today - 1, bucket, member) or seek(today + 1, bucket, member)
end

