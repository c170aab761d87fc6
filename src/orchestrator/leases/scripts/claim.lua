-- ARGV: lease time, job memory, id of this orchestrator, job id, settle time after a loss (0: decide at once), number of
-- ended attempts, id of the worker to avoid, needs, source of the build (or empty), regions in the order of preference.
-- Returns {"held", worker, incarnation, attempt, address}, {"claimed", region, 1 if the worker has built the source,
-- worker, incarnation, attempt, address}, {"cancelled", reason, attempts}, {"none"}, or {"incapable", for how many ms,
-- attempts}.
local orchestrator, jobId, settleMs, attemptsEnded = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local avoided, needs, source = ARGV[7], ARGV[8], ARGV[9]
local firstRegion = 10
local warmKey, incapableKey = prefix .. 'warm:' .. source, prefix .. 'incapable:' .. jobId
local held = readClaim(jobId)
if held then
  prove(jobId)
  markBegun(jobId, held.attempt)
  return { 'held', held.worker, held.incarnation, held.attempt, held.address }
end
if nowMs < sinceMs + settleMs then return { 'none' } end
local attempts = math.max(readAttempts(jobId), attemptsEnded)
local reason = cancellation(jobId)
if reason then return { 'cancelled', reason, attempts } end

local function warmth(worker)
  return source ~= '' and tonumber(redis.call('ZSCORE', warmKey, worker.id) or 0) or 0
end

-- Prefers the most free slots, then the worker that built this source last, then the one least recently used.
local function isBetter(worker, free, best, bestFree)
  if not best then return true end
  if free ~= bestFree then return free > bestFree end
  local warm, bestWarm = warmth(worker), warmth(best)
  if warm ~= bestWarm then return warm > bestWarm end
  return worker.used < best.used
end

local isAnyAlive, isAnyCapable = false, false

local function bestWorker(region, excluded)
  local best, bestFree
  for _, workerId in ipairs(redis.call('SMEMBERS', regionKey(region))) do
    local worker = readWorker(workerId)
    if not worker then
      redis.call('SREM', regionKey(region), workerId)
    elseif isAlive(worker) then
      isAnyAlive = true
      if canBuild(worker, needs) then
        isAnyCapable = true
        local free = isSchedulable(orchestrator, worker) and worker.id ~= excluded and freeSlots(worker) or 0
        if free > 0 and isBetter(worker, free, best, bestFree) then best, bestFree = worker, free end
      end
    end
  end
  return best
end

local function bestOfRegions(excluded)
  for index = firstRegion, #ARGV do
    local worker = bestWorker(ARGV[index], excluded)
    if worker then return worker end
  end
  return nil
end

local worker = bestOfRegions(avoided) or bestOfRegions('')
if not worker and isAnyAlive and not isAnyCapable then
  local incapableSinceMs = tonumber(redis.call('GET', incapableKey) or nowMs)
  redis.call('SET', incapableKey, incapableSinceMs, 'PX', forgetIncapableMs)
  return { 'incapable', nowMs - incapableSinceMs, attempts }
end
if needs ~= '' then redis.call('DEL', incapableKey) end
if not worker then return { 'none' } end
local attempt = attempts + 1
local hasBuiltSource = warmth(worker) > 0 and 1 or 0
prove(jobId)
putClaim(jobId, worker.id, worker.incarnation, attempt, worker.address)
redis.call('HSET', claimKey(jobId), 'since', nowMs)
local use = nextUse()
redis.call('HSET', workerKey(worker.id), 'used', use)
if source ~= '' then
  redis.call('ZADD', warmKey, use, worker.id)
  redis.call('ZREMRANGEBYRANK', warmKey, 0, -maxWarm - 1)
  redis.call('PEXPIRE', warmKey, forgetWarmMs)
end
return { 'claimed', worker.region, hasBuiltSource, worker.id, worker.incarnation, attempt, worker.address }
