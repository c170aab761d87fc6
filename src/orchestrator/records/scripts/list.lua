-- ARGV: after which place (time of acceptance or +inf, job id or empty), number of jobs.
-- Returns the jobs after it in the list, the latest first: {id, place in the list, job, accepted at, summary, last event},
-- with only the first two for a job whose record has expired.
local afterMs, afterId, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local jobs, offset = {}, 0
while #jobs < count do
  local page = redis.call('ZREVRANGEBYSCORE', KEYS[1] .. 'jobs', afterMs, '-inf', 'WITHSCORES', 'LIMIT', offset, count)
  if #page == 0 then break end
  for i = 1, #page, 2 do
    local id, acceptedAt = page[i], page[i + 1]
    -- Jobs of the same millisecond are in descending order of their ids.
    if #jobs < count and (acceptedAt ~= afterMs or afterId == '' or id < afterId) then
      local fields = redis.call('HMGET', KEYS[1] .. 'job:' .. id, 'job', 'acceptedAt', 'summary')
      local event = redis.call('LINDEX', KEYS[1] .. 'events:' .. id, -1)
      table.insert(jobs, { id, acceptedAt, fields[1], fields[2], fields[3], event })
    end
  end
  offset = offset + count
end
return jobs
