-- ARGV: job id, memories, group. Returns the jobs before this one in the group, oldest first.
local jobId, jobs, places = ARGV[1], KEYS[1] .. 'supersede:' .. ARGV[4], KEYS[1] .. 'supersedings'
if not redis.call('ZSCORE', jobs, jobId) then redis.call('ZADD', jobs, redis.call('INCR', places), jobId) end
redis.call('PEXPIRE', jobs, activeMemoryMs)
redis.call('PEXPIRE', places, activeMemoryMs)
return redis.call('ZRANGEBYSCORE', jobs, '-inf', '(' .. redis.call('ZSCORE', jobs, jobId))
