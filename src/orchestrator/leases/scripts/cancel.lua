-- ARGV: lease time, job memory, job id, reason, settle time after a loss.
-- Returns {"claimed", worker, incarnation, attempt, address}, {"unclaimed", attempts} or {"unknown"}.
local jobId = ARGV[3]
redis.call('SET', prefix .. 'cancelled:' .. jobId, ARGV[4], 'PX', jobMemoryMs, 'NX')
redis.call('SADD', prefix .. 'cancelling', jobId)
announceChange()
local claim = readClaim(jobId)
if claim then return { 'claimed', claim.worker, claim.incarnation, claim.attempt, claim.address } end
if nowMs < sinceMs + tonumber(ARGV[5]) then return { 'unknown' } end
return { 'unclaimed', (readAttempts(jobId)) }
