-- ARGV: lease time, job memory, worker id, incarnation, job id, attempt, settle time after a loss.
local jobId, attempt = ARGV[5], tonumber(ARGV[6])
local claim = readClaim(jobId)
if claim then return isOf(claim, ARGV[3], ARGV[4], attempt) and 1 or 0 end
local last, done = readAttempts(jobId)
if attempt < last or attempt <= done then return 0 end
return nowMs < sinceMs + tonumber(ARGV[7]) and 1 or 0
