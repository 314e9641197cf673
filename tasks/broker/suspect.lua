-- Note which lookup of a claim is run next.
--
-- KEYS[1]  claim
-- ARGV[1]  index of the lookup

-- A claim that another worker has ended in the meantime must not come to be again.
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'suspect', ARGV[1])
end
