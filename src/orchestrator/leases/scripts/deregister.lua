-- ARGV: lease time, job memory, worker id, incarnation.
local worker = readWorker(ARGV[3])
if not worker or worker.incarnation ~= ARGV[4] then return 0 end
for _, jobId in ipairs(claimedJobs(worker)) do
  local claim = readClaim(jobId)
  if claim and claim.worker == worker.id and claim.incarnation == worker.incarnation then
    redis.call('DEL', claimKey(jobId))
  end
end
redis.call('DEL', claimsKey(worker.id, worker.incarnation), workerKey(worker.id))
redis.call('ZREM', prefix .. 'workers', worker.id)
redis.call('SREM', regionKey(worker.region), worker.id)
announceChange()
return 1
