-- Entries of the quarantine without their bytes, which may be many.
--
-- KEYS[1]  the quarantine
-- ARGV[1], ARGV[2]  from this id to that one
-- ARGV[3]  entries at most
-- Returns id and fields of each; `bytes` stands for `raw`, with its length.

local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
for _, entry in ipairs(found) do
  local fields = entry[2]
  for at = 1, #fields, 2 do
    if fields[at] == 'raw' then
      fields[at], fields[at + 1] = 'bytes', tostring(#fields[at + 1])
    end
  end
end
return found
