-- ARGV: lease time, job memory, worker id, incarnation, job id, attempt, 1 if the attempt counts as ended.
local workerId, incarnation, jobId, attempt, counts = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local claim = readClaim(jobId)
if claim and not isOf(claim, workerId, incarnation, attempt) then return 0 end
redis.call('DEL', claimKey(jobId))
redis.call('ZREM', claimsKey(workerId, incarnation), jobId)

local last, done = readAttempts(jobId)
if counts then
  -- A ping in flight may still report the run, which must not get the claim back.
  redis.call('HSET', attemptsKey(jobId), 'last', math.max(last, attempt), 'done', math.max(done, attempt))
elseif last == attempt and done < attempt then
  redis.call('HSET', attemptsKey(jobId), 'last', attempt - 1)
end
redis.call('PEXPIRE', attemptsKey(jobId), math.max(jobMemoryMs, leaseTtlMs))

local worker = readWorker(workerId)
if worker and worker.incarnation == incarnation then
  -- The last ping is older than this release. If the worker is still busy, it refuses the next job.
  if worker.status == 'BUSY' and worker.refusal == '' then redis.call('HSET', workerKey(workerId), 'status', 'FREE') end
  redis.call('HSET', workerKey(workerId), 'used', nextUse())
end
announceChange()
return 1
