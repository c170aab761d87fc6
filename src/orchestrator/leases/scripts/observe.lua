-- ARGV: lease time, job memory, worker id, incarnation, status, refusal, runs.
-- Returns the jobs whose runs are stale, or false when the worker is not known under that incarnation.
local before = readWorker(ARGV[3])
if not before or before.incarnation ~= ARGV[4] then return false end
extendLease(before.id)
redis.call('HSET', workerKey(before.id), 'status', ARGV[5], 'refusal', ARGV[6])
local stale = holdRuns(before, 7)
if not isSchedulable(before) and ARGV[5] == 'FREE' then announceChange() end
return stale
