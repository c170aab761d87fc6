-- ARGV: lease time, job memory, worker id, incarnation, job id, attempt, settle time after a loss, 1 if a claim that is
-- alive is fenced, too.
-- Returns -1 when the run may still have the claim. Otherwise no script extends, restores or confirms the claim of this
-- attempt any more, and the reply is how long an earlier confirmation is valid, in ms.
local jobId, attempt, isForced = ARGV[5], tonumber(ARGV[6]), ARGV[8] == '1'
local claim = readClaim(jobId)
if claim and not isOf(claim, ARGV[3], ARGV[4], attempt) then return 0 end
local last, done = readAttempts(jobId)
if attempt < last or attempt <= done then return claim and redis.call('PTTL', claimKey(jobId)) or 0 end
if not isForced and (claim or nowMs < sinceMs + tonumber(ARGV[7])) then return -1 end
redis.call('HSET', attemptsKey(jobId), 'last', math.max(last, attempt), 'done', attempt)
redis.call('PEXPIRE', attemptsKey(jobId), math.max(jobMemoryMs, leaseTtlMs))
return claim and redis.call('PTTL', claimKey(jobId)) or 0
