-- ARGV: lease time, job memory, job id, how long after a loss nothing is decided (0: at once), how many attempts have
-- ended, the worker to avoid, regions in order.
-- {"held" or "claimed", worker, incarnation, attempt, address}, {"cancelled", reason, attempts} or {"none"}.
local jobId, attemptsEnded, avoided = ARGV[3], tonumber(ARGV[5]), ARGV[6]
local held = readClaim(jobId)
if held then return { 'held', held.worker, held.incarnation, held.attempt, held.address } end
if nowMs < sinceMs + tonumber(ARGV[4]) then return { 'none' } end
local reason = cancellation(jobId)
if reason then return { 'cancelled', reason, math.max(readAttempts(jobId), attemptsEnded) } end

-- Most free slots first, then the one that has been without a new job for longest.
local function isBetter(worker, free, best, bestFree)
  if not best then return true end
  if free ~= bestFree then return free > bestFree end
  return worker.used < best.used
end

local function bestWorker(region, excluded)
  local best, bestFree
  for _, workerId in ipairs(redis.call('SMEMBERS', regionKey(region))) do
    local worker = readWorker(workerId)
    if not worker then
      redis.call('SREM', regionKey(region), workerId)
    elseif isSchedulable(worker) and worker.id ~= excluded then
      local free = freeSlots(worker)
      if free > 0 and isBetter(worker, free, best, bestFree) then best, bestFree = worker, free end
    end
  end
  return best
end

local function bestOfRegions(excluded)
  for index = 7, #ARGV do
    local worker = bestWorker(ARGV[index], excluded)
    if worker then return worker end
  end
  return nil
end

local worker = bestOfRegions(avoided) or bestOfRegions('')
if not worker then return { 'none' } end
local attempt = math.max(readAttempts(jobId), attemptsEnded) + 1
putClaim(jobId, worker.id, worker.incarnation, attempt, worker.address)
redis.call('HSET', workerKey(worker.id), 'used', nextUse())
return { 'claimed', worker.id, worker.incarnation, attempt, worker.address }
