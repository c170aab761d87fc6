-- ARGV: lease time, job memory, worker id, incarnation, job id, attempt, how it ended: "released", "refused" (by its
-- worker), or "unsent" (no call of the caller has reached the worker). Returns 0 when the claim is not, or may not be,
-- the caller's alone to end.
local workerId, incarnation, jobId, attempt, ending = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local claim = readClaim(jobId)
if claim and not isOf(claim, workerId, incarnation, attempt) then return 0 end
local last, done = readAttempts(jobId)
-- After a loss of the data, other callers of this claim are not known any more.
if ending == 'unsent' and (mayHaveBegun(jobId, attempt) or last ~= attempt or done >= attempt) then return 0 end
redis.call('DEL', claimKey(jobId))
redis.call('ZREM', claimsKey(workerId, incarnation), jobId)

if ending == 'released' then
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
