-- Which lookups of a task are published.
--
-- KEYS[1]  set of the indexes that this task id has published, as the release before wrote it
-- ARGV     for each lookup: index, bucket, member
-- Return the indexes of those that are.

local answer = {}
for i = 1, #ARGV, 3 do
  if is_published(KEYS[1], ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]) then
    answer[#answer + 1] = tonumber(ARGV[i])
  end
end
return answer
