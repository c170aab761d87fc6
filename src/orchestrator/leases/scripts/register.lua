-- ARGV: lease time, job memory, id of this orchestrator, worker id, incarnation, region, address, slots, version,
-- capabilities, labels, 1 if it keeps its id, runs.
-- Returns 1: registered, 0: id in use, or the id of the worker that has the address.
local orchestrator, workerId, incarnation, region, address = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local known = readWorker(workerId)
if known and known.incarnation ~= incarnation and isAlive(known) then return 0 end
for _, otherId in ipairs(redis.call('ZRANGE', prefix .. 'workers', 0, -1)) do
  local other = otherId ~= workerId and readWorker(otherId)
  -- One that missed the last ping may be an earlier process at this address, which does not answer there any more.
  if other and other.address == address and isAlive(other) and not hasMissed(orchestrator, other) then return otherId end
end
if known and known.region ~= region then redis.call('SREM', regionKey(known.region), workerId) end

local isSame = known and known.incarnation == incarnation
redis.call('HSET', workerKey(workerId), 'incarnation', incarnation, 'region', region, 'address', address,
  'slots', ARGV[8], 'version', ARGV[9], 'capabilities', ARGV[10], 'labels', ARGV[11], 'keepsId', ARGV[12],
  'status', isSame and known.status or 'FREE',
  'used', isSame and known.used or nextUse())
if not isSame then redis.call('HDEL', workerKey(workerId), 'refusal', 'load') end
redis.call('SADD', regionKey(region), workerId)
extendLease(workerId)
holdRuns(readWorker(workerId), 13)
redis.call('ZREMRANGEBYSCORE', prefix .. 'workers', '-inf', nowMs - forgetWorkerMs)
announceRegistration()
return 1
