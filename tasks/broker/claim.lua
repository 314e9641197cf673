-- Claim entries: what was released, then what is due, then what waits in the queue, one queue after the other.
--
-- KEYS[1]  leases: claim id → when its lease runs out
-- then for each queue: list of released claims, delayed claims by due time, and its lists by priority
-- ARGV[1]  worker
-- ARGV[2]  milliseconds that a lease holds
-- ARGV[3]  how many to claim at most
-- ARGV[4]  what new claim ids begin with; a counter follows
-- ARGV[5]  lists by priority of each queue
-- ARGV[6]  longest entry that is handed out, in bytes; what a worker has deferred itself may be longer
-- then the queues' names
-- Beside KEYS it uses the claims (CLAIM .. id) whose ids it takes from these lists, and new ones.
--
-- Return the milliseconds until the next delayed claim is due (-1: there is none), then seven for each claim:
-- id, queue, workers that have died on it, times it has been taken, milliseconds since it was first taken, 1 if a
-- worker deferred it, and the entry, or its length where it is too long. Nothing of an entry is parsed here.

local HEAD, FIXED = 6, 2
local worker, lease, wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lists, longest = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local first_seen = string.format('%.0f', now)
local expiry = string.format('%.0f', now + lease)
local each, queues = FIXED + lists, #ARGV - HEAD
local answer = {-1}
local taken, made = 0, 0

-- A key of another type, set by another program, holds nothing of ours; it must not end the script half way.
local function attempt(...)
  local found = redis.pcall(...)
  if type(found) == 'table' and found.err then
    return nil
  end
  return found
end

local function take(id)
  local key = CLAIM .. id
  if redis.call('HEXISTS', key, 'entry') == 0 then
    redis.call('UNLINK', key)
    return false
  end
  redis.call('HSET', key, 'worker', worker)
  redis.call('HSETNX', key, 'seen', first_seen)
  local times = redis.call('HINCRBY', key, 'taken', 1)
  redis.call('ZADD', KEYS[1], expiry, id)
  local found = redis.call('HMGET', key, 'queue', 'deaths', 'seen', 'deferred')
  local entry = redis.call('HSTRLEN', key, 'entry')
  if entry <= longest or found[4] then
    entry = redis.call('HGET', key, 'entry')
  end
  taken = taken + 1
  for _, value in ipairs({id, found[1], found[2] or '0', times, now - found[3], found[4] or '0', entry}) do
    answer[#answer + 1] = value
  end
  return true
end

-- Lists by priority are empty as a rule: one question for all of a queue's.
local prioritised = {}
for queue = 1, queues do
  local base = 1 + (queue - 1) * each + FIXED
  prioritised[queue] = lists > 1 and redis.call('EXISTS', unpack(KEYS, base + 2, base + lists)) > 0
end

local function take_one(queue)
  local base = 1 + (queue - 1) * each
  local id = attempt('RPOP', KEYS[base + 1])
  while id do
    if take(id) then
      return true
    end
    id = attempt('RPOP', KEYS[base + 1])
  end
  local due = (attempt('ZRANGEBYSCORE', KEYS[base + 2], '-inf', now, 'LIMIT', 0, 1) or {})[1]
  while due do
    redis.call('ZREM', KEYS[base + 2], due)
    if take(due) then
      return true
    end
    due = redis.call('ZRANGEBYSCORE', KEYS[base + 2], '-inf', now, 'LIMIT', 0, 1)[1]
  end
  for list = 1, prioritised[queue] and lists or 1 do
    local entry = attempt('RPOP', KEYS[base + FIXED + list])
    if entry then
      id = ARGV[4] .. string.format('%.0f', made)
      made = made + 1
      redis.call('HSET', CLAIM .. id, 'queue', ARGV[HEAD + queue], 'entry', entry)
      return take(id)
    end
  end
  return false
end

local more = true
while more and taken < wanted do
  more = false
  for queue = 1, queues do
    if taken < wanted and take_one(queue) then
      more = true
    end
  end
end

for queue = 1, queues do
  local first = attempt('ZRANGE', KEYS[1 + (queue - 1) * each + 2], 0, 0, 'WITHSCORES') or {}
  if first[2] then
    local left = math.max(0, tonumber(first[2]) - now)
    if answer[1] < 0 or left < answer[1] then
      answer[1] = left
    end
  end
end
return answer
