-- One account's circuit: counts the outcomes of its calls, opens it, and lets one call through as a trial to close it.
--
-- KEYS[1]  the account's counts
-- KEYS[2]  circuits that are open: name → when a trial is due, in milliseconds
-- KEYS[3]  circuits that an operator holds open: name → until when
-- KEYS[4]  circuits that are open because the provider asked to be left alone: name → category, and for how many ms
-- ARGV[1]  name of the circuit, ARGV[2] of its whole provider's
-- ARGV[3]  calls that succeeded, ARGV[4] failed, since the last report
-- ARGV[5]  'ask' for the trial of an open one; how a trial ended: 'well', 'badly', or 'nothing' where it shows nothing about
--          the provider; or ''
-- ARGV[6]  window in milliseconds, ARGV[7] calls in it before anything is concluded, ARGV[8] share of bad ones that opens;
--          as many bad calls in a row open it too, whatever there was before them in the window
-- ARGV[9]  milliseconds that it is open: at first, ARGV[10] and at most
-- ARGV[11] milliseconds after which a trial that has not been reported is abandoned
-- ARGV[12] category of the answer by which the provider asked to be left alone, or ''
-- ARGV[13] for how many milliseconds it asked; 0: it did not say
-- Returns 'closed', 'try', or 'open'; the milliseconds for which it stays so; and the category by which the provider asked
-- for that, or ''.
--
-- The clock of Redis may go back, as when a host takes over that is behind: a moment further ahead than it can be is over.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name, window, asked_by = ARGV[1], tonumber(ARGV[6]), ARGV[12]
local first, longest, asked = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[13])

for _, held in ipairs({ARGV[1], ARGV[2]}) do
  local left = tonumber(redis.call('ZSCORE', KEYS[3], held) or 0) - now
  if left > 0 then
    return {'open', left, ''}
  end
end

local function number(field)
  return tonumber(redis.call('HGET', KEYS[1], field) or 0)
end

local function open_for(pause, category)
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + pause), name)
  redis.call('HSET', KEYS[1], 'pause', string.format('%.0f', pause), 'trying', 0)
  if category == '' then
    redis.call('HDEL', KEYS[4], name)
  else
    redis.call('HSET', KEYS[4], name, string.format('%s %.0f', category, pause))
  end
  return {'open', pause, category}
end

local function open(times)
  local pause = asked > 0 and asked or math.min(first * 2 ^ times, longest)
  redis.call('HSET', KEYS[1], 'times', times, 'opened', string.format('%.0f', now))
  redis.call('HDEL', KEYS[1], 'row', 'window', 'good', 'bad', 'good_before', 'bad_before')
  redis.call('PERSIST', KEYS[1])
  return open_for(pause, asked_by)
end

local again = redis.call('ZSCORE', KEYS[2], name)
if again then
  local left = tonumber(again) - now
  local pause = number('pause')
  if left > (pause > 0 and pause or longest) then
    left = 0
  end
  local why = string.match(redis.call('HGET', KEYS[4], name) or '', '^%S*')
  -- A provider that wanted fewer calls and answers otherwise wants that no more, whatever the answer is.
  local over = ARGV[5] == 'badly' and why == 'rate_limited' and asked_by == ''
  if ARGV[5] == 'well' or over then
    redis.call('ZREM', KEYS[2], name)
    redis.call('HDEL', KEYS[4], name)
    redis.call('HSET', KEYS[1], 'closed', string.format('%.0f', now))
    redis.call('EXPIRE', KEYS[1], 86400)
    return {'closed', 0, ''}
  elseif ARGV[5] == 'badly' then
    return open(number('times') + 1)
  elseif ARGV[5] == 'nothing' then
    return open_for(first, why)
  elseif asked > math.max(left, 0) then
    -- Of many calls under way that are answered so, the one that asks for most counts.
    return open_for(asked, asked_by)
  elseif ARGV[5] == 'ask' and left <= 0 then
    local trying = number('trying') - now
    if trying <= 0 or trying > tonumber(ARGV[11]) then
      redis.call('HSET', KEYS[1], 'trying', string.format('%.0f', now + tonumber(ARGV[11])))
      return {'try', 0, ''}
    end
  end
  return {'open', math.max(left, 0), why}
end

if asked_by ~= '' then
  return open(0)
end
local good, bad = tonumber(ARGV[3]), tonumber(ARGV[4])
if good + bad == 0 then
  return {'closed', 0, ''}
end
-- The window slides: of the one before, as much counts as is not older than a whole window.
local current, counted = math.floor(now / window), number('window')
local good_before, bad_before = number('good_before'), number('bad_before')
if counted == current then
  good, bad = good + number('good'), bad + number('bad')
elseif counted == current - 1 then
  good_before, bad_before = number('good'), number('bad')
else
  good_before, bad_before = 0, 0
end
local on = tonumber(ARGV[3]) == 0 and (counted == current or counted == current - 1)
local row = tonumber(ARGV[4]) + (on and number('row') or 0)
local part = 1 - (now % window) / window
local bad_now = bad + bad_before * part
local all = good + good_before * part + bad_now
local most = all >= tonumber(ARGV[7]) and bad_now >= all * tonumber(ARGV[8])
if tonumber(ARGV[4]) > 0 and (most or row >= tonumber(ARGV[7])) then
  -- Open again soon after it was closed: the provider is not well yet, and is left alone for longer.
  local since = now - number('closed')
  return open(since >= 0 and since < 3 * window and number('times') + 1 or 0)
end
redis.call('HSET', KEYS[1], 'window', string.format('%.0f', current), 'good', good, 'bad', bad,
  'good_before', good_before, 'bad_before', bad_before, 'row', row)
redis.call('EXPIRE', KEYS[1], 86400)
return {'closed', 0, ''}
