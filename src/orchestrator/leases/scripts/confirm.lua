-- ARGV: lease time, job memory, worker id, incarnation, job id, attempt.
-- Returns the time left in ms, or -1: refused, -2: the worker has to register before this can be known, -3: only an
-- orchestrator that holds the job's message can confirm it.
local workerId, incarnation, jobId, attempt = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if cancellation(jobId) then return -1 end
local worker = readWorker(workerId)
local claim = readClaim(jobId)
local last, done = readAttempts(jobId)
if attempt <= done then return -1 end
if claim and isOf(claim, workerId, incarnation, attempt) then
  putClaim(jobId, workerId, incarnation, attempt, claim.address)
  markBegun(jobId, attempt)
  return isUnproven(jobId, attempt) and -3 or leaseTtlMs
end
if claim and claim.attempt >= attempt then return -1 end
if attempt < last then return -1 end
if not worker then return -2 end
if worker.incarnation ~= incarnation then return -1 end
if not holdRun(worker, jobId, attempt) then return -1 end
return isUnproven(jobId, attempt) and -3 or leaseTtlMs
