-- Publish results, and dead letters where due: each once for its task id and index.
--
-- KEYS[1]   set of the indexes that this task id has published, where workers of the release before may look for it
-- KEYS[2]   set of the result queues that there are, for the sweep
-- KEYS[3]   stream of dead letters
-- KEYS[4]   until when (Redis' time in seconds) workers of the release before may look for anything
-- KEYS[5]   set of the workers that there are, KEYS[6] of those that read the fences of this release
-- KEYS[7]   the sweep's lock, which the release before held with a value of 1
-- KEYS[8..] for each result, in order, the stream to publish it in; "" for none
-- ARGV[1]   seconds for which a second publication is refused
-- ARGV[2]   results that a result queue keeps at most
-- ARGV[3]   dead letters kept at most
-- ARGV[4]   task id
-- ARGV[5]   provider
-- ARGV[6]   lane
-- then thirteen for each result:
--   index, bucket and member of its fence (see fence.lua), seconds after which its stream expires (0: never), lookup_id, status, result,
--   1 for a dead letter (else 0), and what only a dead letter needs: account, category, code, failed_at, request
--
-- Return how many had been published before, then the indexes of those whose key is no stream: these are untouched.

-- Looked at before anything is written: a script that fails halfway would have set the fence and not published.
local function holds(key, wanted)
  local kind = redis.call('TYPE', key).ok
  return kind == wanted or kind == 'none'
end
if not (holds(KEYS[1], 'set') and holds(KEYS[2], 'set') and holds(KEYS[3], 'stream')) then
  return redis.error_reply('WRONGTYPE a key of this service holds something else: ' ..
    KEYS[1] .. ' and ' .. KEYS[2] .. ' are sets, ' .. KEYS[3] .. ' is a stream')
end

-- The release before keeps a set for each task id, 200 bytes for a single lookup. For as long as one of its workers may
-- be there, for a day after one was seen, and for a day after it has published here, both kinds of fences are set.
local function is_twofold()
  local said = redis.call('GET', KEYS[4])
  local before = not said and (redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 or redis.call('GET', KEYS[7]) == '1')
  for _, worker in ipairs(redis.call('SMEMBERS', KEYS[5])) do
    before = before or redis.call('SISMEMBER', KEYS[6], worker) == 0
  end
  local ends = tonumber(said or 0)
  if before and ends < now + ARGV[1] - 1 then
    ends = now + ARGV[1]
    redis.call('SET', KEYS[4], string.format('%.0f', ends))
  elseif not said then
    redis.call('SET', KEYS[4], 0)
  end
  return ends > now
end

local HEAD, EACH, FIRST = 6, 13, 8
local twofold = is_twofold()
local answer = {0}
for i = FIRST, #KEYS do
  local at = HEAD + (i - FIRST) * EACH
  local index, stream = ARGV[at + 1], KEYS[i]
  local bucket, member = tonumber(ARGV[at + 2]), ARGV[at + 3]
  if stream ~= '' and not holds(stream, 'stream') then
    answer[#answer + 1] = tonumber(index)
  elseif is_published(KEYS[1], index, bucket, member) then
    answer[1] = answer[1] + 1
  else
    local _, fence, held = seek(today, bucket, member)
    redis.call('SADD', fence, member)
    if held == 0 then
      redis.call('EXPIRE', fence, string.format('%.0f', (today + 1) * DAY - now + ARGV[1]))
    end
    if twofold then
      redis.call('SADD', KEYS[1], index)
    end
    local expiry, lookup_id, status, result = unpack(ARGV, at + 4, at + 7)
    if stream ~= '' then
      redis.call('XADD', stream, 'MAXLEN', ARGV[2], '*',
        'lookup_id', lookup_id, 'status', status, 'provider', ARGV[5], 'result', result)
      if expiry == '0' then
        redis.call('SADD', KEYS[2], stream)
      else
        redis.call('EXPIRE', stream, expiry)
      end
    end
    if ARGV[at + 8] == '1' then
      local account, category, code, failed_at, request = unpack(ARGV, at + 9, at + 13)
      redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[3], '*',
        'lookup_id', lookup_id, 'task_id', ARGV[4], 'provider', ARGV[5], 'account', account, 'lane', ARGV[6],
        'category', category, 'code', code, 'failed_at', failed_at, 'request', request, 'result', result)
    end
  end
end
if twofold then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return answer
