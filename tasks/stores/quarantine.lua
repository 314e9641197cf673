-- Move a claim's entry to quarantine, byte for byte.
--
-- KEYS[1]  leases
-- KEYS[2]  quarantine
-- KEYS[3]  the claim
-- ARGV[1]  claim id
-- ARGV[2]  entries that the quarantine keeps at most
-- ARGV[3]  longest entry that is kept whole, in bytes
-- ARGV[4]  bytes that are kept of a longer one
-- ARGV[5]  reason, ARGV[6] time

local key = KEYS[3]
local found = redis.call('HMGET', key, 'queue', 'entry')
local queue, entry = found[1], found[2]
local length = #(entry or '')
-- A script whose first write may take memory is refused when Redis is full. This one takes none, and a move none for long.
redis.call('ZREM', KEYS[1], '')
if entry then
  local fields = {'queue', queue, 'reason', ARGV[5], 'quarantined_at', ARGV[6], 'raw', entry}
  if length > tonumber(ARGV[3]) then
    fields[8] = string.sub(entry, 1, tonumber(ARGV[4]))
    fields[9] = 'truncated_from'
    fields[10] = length
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[2], '*', unpack(fields))
  redis.call('UNLINK', key)
end
redis.call('ZREM', KEYS[1], ARGV[1])
return length
