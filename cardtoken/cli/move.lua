-- Put an entry on a queue and take what it was made of out of a stream, or neither.
--
-- KEYS[1]  the stream
-- KEYS[2]  the queue
-- ARGV[1]  the entry, or "" for the field `raw` of the one entry of the stream
-- ARGV[2..] ids in the stream
-- Returns the ids that are not there any more: then nothing was done. None of them: all was done.

local gone, raw = {}, nil
for i = 2, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
  if #found == 0 then
    gone[#gone + 1] = ARGV[i]
  elseif ARGV[1] == '' then
    local fields = found[1][2]
    for at = 1, #fields, 2 do
      if fields[at] == 'raw' then
        raw = fields[at + 1]
      end
    end
  end
end
if #gone == 0 then
  redis.call('LPUSH', KEYS[2], raw or ARGV[1])
  redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
end
return gone
