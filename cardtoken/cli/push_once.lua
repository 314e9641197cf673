-- Push a message of a bulk run, unless it was pushed before or its queue is full.
--
-- KEYS[1]  the queue
-- KEYS[2]  set of the task ids that this run has pushed
-- ARGV[1]  task id, ARGV[2] entry
-- ARGV[3]  messages in the queue from which on it is full
-- ARGV[4]  seconds that the set is kept
-- Returns 1 when it was pushed, 0 when it had been, -1 when the queue is full.

if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then
  return 0
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return -1
end
redis.call('LPUSH', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
