-- Publish results, and dead letters where due: each once for its task id and index.
--
-- KEYS[1]   set of the indexes that this task id has published already
-- KEYS[2]   set of the result queues that there are, for the sweep
-- KEYS[3]   stream of dead letters
-- KEYS[4..] for each result, in order, the stream to publish it in; "" for none
-- ARGV[1]   seconds for which a second publication is refused
-- ARGV[2]   results that a result queue keeps at most
-- ARGV[3]   dead letters kept at most
-- ARGV[4]   task id
-- ARGV[5]   provider
-- ARGV[6]   lane
-- then eleven for each result:
--   index, seconds after which its stream expires (0: never), lookup_id, status, result,
--   1 for a dead letter (else 0), and what only a dead letter needs: account, category, code, failed_at, request
--
-- Answers how many had been published before, then the indexes of those whose key is no stream: these are untouched.

-- Looked at before anything is written: a script that fails halfway would have set the fence and not published.
local function holds(key, wanted)
  local kind = redis.call('TYPE', key).ok
  return kind == wanted or kind == 'none'
end
if not (holds(KEYS[1], 'set') and holds(KEYS[2], 'set') and holds(KEYS[3], 'stream')) then
  return redis.error_reply('WRONGTYPE a key of this service holds something else: ' ..
    KEYS[1] .. ' and ' .. KEYS[2] .. ' are sets, ' .. KEYS[3] .. ' is a stream')
end

local HEAD, EACH = 6, 11
local answer = {0}
for i = 4, #KEYS do
  local at = HEAD + (i - 4) * EACH
  local index, stream = ARGV[at + 1], KEYS[i]
  if stream ~= '' and not holds(stream, 'stream') then
    answer[#answer + 1] = tonumber(index)
  elseif redis.call('SADD', KEYS[1], index) == 0 then
    answer[1] = answer[1] + 1
  else
    local expiry, lookup_id, status, result = unpack(ARGV, at + 2, at + 5)
    if stream ~= '' then
      redis.call('XADD', stream, 'MAXLEN', ARGV[2], '*',
        'lookup_id', lookup_id, 'status', status, 'provider', ARGV[5], 'result', result)
      if expiry == '0' then
        redis.call('SADD', KEYS[2], stream)
      else
        redis.call('EXPIRE', stream, expiry)
      end
    end
    if ARGV[at + 6] == '1' then
      local account, category, code, failed_at, request = unpack(ARGV, at + 7, at + 11)
      redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[3], '*',
        'lookup_id', lookup_id, 'task_id', ARGV[4], 'provider', ARGV[5], 'account', account, 'lane', ARGV[6],
        'category', category, 'code', code, 'failed_at', failed_at, 'request', request, 'result', result)
    end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return answer
