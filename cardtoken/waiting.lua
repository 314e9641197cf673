-- Count the lookups in a part of what waits, by the field that each request has: nothing is parsed, nothing written.
--
-- KEYS[1]  a list of entries, or a list or sorted set of claim ids
-- ARGV[1]  "entries", "ids", or "due": claims whose time has come
-- ARGV[2], ARGV[3]  the place to begin at, and how many to read at most
-- ARGV[4]  bytes after which it ends
-- ARGV[5]  how many are read in one step; it goes down where entries are large
-- then the field, in its quotes, as base64 shows it at each of the three offsets
-- Beside KEYS it reads the claims (CLAIM .. id) of such ids.
--
-- Return how many were read, their bytes, the lookups found, and the step to go on with. Entries in which none was found (they are
-- compressed, in lines, or no messages) follow by size, with one of each: class, how many, entry ("": over ONE_MEGABYTE).

local ONE_MEGABYTE, LARGEST_STEP = 1048576, 64
local kind, place, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most_bytes, step = tonumber(ARGV[4]), tonumber(ARGV[5])
local find = string.find
local now
if kind == 'due' then
  local time = redis.call('TIME')
  now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end

local function read(count)
  if now then
    return redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', place, count)
  end
  return redis.call('LRANGE', KEYS[1], place, place + count - 1)
end

local function lookups_in(entry)
  -- Base64 in lines would hide some of them.
  if find(entry, '\\n', 1, true) or find(entry, '\\r', 1, true) then
    return 0
  end
  local count = 0
  for i = 6, #ARGV do
    local _, at = find(entry, ARGV[i], 1, true)
    while at do
      count = count + 1
      _, at = find(entry, ARGV[i], at + 1, true)
    end
  end
  return count
end

local seen, lookups, bytes = 0, 0, 0
local odd, sizes = {}, {}
while left > 0 and bytes < most_bytes do
  local found = read(math.min(step, left))
  local largest = 1
  for _, each in ipairs(found) do
    local entry = each
    if kind ~= 'entries' then
      entry = redis.call('HGET', CLAIM .. each, 'entry') or ''
    end
    local count = lookups_in(entry)
    lookups = lookups + count
    largest = math.max(largest, #entry)
    bytes = bytes + #entry
    if count == 0 then
      -- Each is an eighth larger than the one before.
      local size = math.floor(math.log(#entry + 1) * 8)
      if not odd[size] then
        odd[size] = {0, #entry <= ONE_MEGABYTE and entry or ''}
        sizes[#sizes + 1] = size
      end
      odd[size][1] = odd[size][1] + 1
    end
  end
  seen, place, left = seen + #found, place + #found, left - #found
  if #found == 0 then
    break
  end
  step = math.max(1, math.min(LARGEST_STEP, 2 * step, math.floor(most_bytes / largest)))
end

local answer = {seen, bytes, lookups, step}
for _, size in ipairs(sizes) do
  for _, value in ipairs({size, odd[size][1], odd[size][2]}) do
    answer[#answer + 1] = value
  end
end
return answer
