-- Whether a part of a list or a sorted set of messages has one in which some text occurs.
--
-- KEYS[1]  a queue with its entries, or a list or sorted set of claim ids
-- ARGV[1]  "entries", "ids" or "due"
-- ARGV[2], ARGV[3]  from which place to which one
-- ARGV[4]  the text
-- Beside KEYS it reads the claims (CLAIM .. id) of such ids.
-- Returns how many were read, and 1 where it occurs.

local read = ARGV[1] == 'due' and 'ZRANGE' or 'LRANGE'
local found = redis.call(read, KEYS[1], ARGV[2], ARGV[3])
for _, each in ipairs(found) do
  local entry = each
  if ARGV[1] ~= 'entries' then
    entry = redis.call('HGET', CLAIM .. each, 'entry') or ''
  end
  if string.find(entry, ARGV[4], 1, true) then
    return {#found, 1}
  end
end
return {#found, 0}
