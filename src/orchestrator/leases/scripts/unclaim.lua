-- ARGV: lease time, job memory, worker id, incarnation, job id, attempt.
local workerId, incarnation, jobId, attempt = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local claim = readClaim(jobId)
if not claim or not isOf(claim, workerId, incarnation, attempt) then return 0 end
redis.call('DEL', claimKey(jobId))
redis.call('ZREM', claimsKey(workerId, incarnation), jobId)
redis.call('HSET', attemptsKey(jobId), 'last', attempt - 1)
announceChange()
return 1
