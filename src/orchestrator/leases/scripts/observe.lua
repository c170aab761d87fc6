-- ARGV: lease time, job memory, id of this orchestrator, worker id, incarnation, status, refusal, load, runs.
-- Returns the jobs whose runs are stale, or false when the worker is not known under that incarnation.
local orchestrator, status = ARGV[3], ARGV[6]
local before = readWorker(ARGV[4])
if not before or before.incarnation ~= ARGV[5] then return false end
local wasSchedulable = isSchedulable(orchestrator, before)
extendLease(before.id)
noteAnswered(orchestrator, before)
redis.call('HSET', workerKey(before.id), 'status', status, 'refusal', ARGV[7], 'load', ARGV[8])
local stale = holdRuns(before, 9)
local controls = controlsOf(before)
if controls[1] then keepControl('worker:' .. before.id) end
if controls[2] then keepControl('region:' .. before.region) end
if not wasSchedulable and status == 'FREE' and isInService(before) then announceChange() end
return stale
