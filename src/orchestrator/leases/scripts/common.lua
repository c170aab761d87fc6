-- Common part of the lease scripts. KEYS[1] is the prefix of every key; ARGV starts with the lease time and the job
-- memory, both in ms. Keys:
--   workers                    sorted set: worker id -> last seen
--   worker:<id>                hash: the registration, and status, lastSeen, leaseUntil, used, refusal, load
--   region:<region>            set: worker ids
--   claims:<id>:<incarnation>  sorted set: job id -> end of its claim
--   claim:<job>                hash: worker, incarnation, attempt, address, since; expires with the claim
--   attempts:<job>             hash: last (highest attempt known), done (highest attempt released or fenced: it gets
--                              no claim and no confirmation any more), unproven (attempt
--                              that is known only from its worker's report), begun (attempt whose run may exist:
--                              its worker has reported or confirmed it, or a second caller got its claim)
--   cancelled:<job>            the reason of the cancellation
--   cancelling                 set: cancelled jobs that have not ended yet
--   warm:<source>              sorted set: the workers that built it last -> their `used` at that time
--   incapable:<job>            since when no live worker could build it; expires when it is not requested any more
--   uses                       counter: the higher a worker's `used`, the more recently it had a job
--   since                      start of the settle time; missing after a loss, and after half a lease time without any
--                              orchestrator: claims may have ended then, although their workers are healthy. Half,
--                              because it has to expire before any claim, and those are extended at every ping
--   orchestrators              hash: id of an orchestrator -> its settings, as text
--   orchestrators-seen         sorted set: id of an orchestrator -> when it was last seen
--   reached:<orchestrator>     sorted set: worker id and incarnation -> until when this orchestrator's last ping,
--                              which was answered, shows that it reaches the worker
--   missed:<orchestrator>      the same for a last ping that was missed
--   controls                   hash: worker:<id> or region:<region> that an operator has taken out of service -> kind,
--                              since when and reason, separated by spaces
--   controls-until             sorted set: the same names -> when the control is forgotten, unless the worker, or one of
--                              the region, answers a ping before
--   changes                    channel: a slot or worker became free
local prefix = KEYS[1]
local leaseTtlMs = tonumber(ARGV[1])
local jobMemoryMs = tonumber(ARGV[2])
local forgetWorkerMs = 3600000
local forgetWarmMs = 604800000
local maxWarm = 10
local forgetIncapableMs = 3600000
local forgetOrchestratorMs = 60000
local maxLeaseTtlMs = 600000
local keepControlMs = 7776000000

-- The server's clock, since those of the orchestrators differ.
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)

local sinceMs = tonumber(redis.call('GET', prefix .. 'since'))
if not sinceMs then sinceMs = nowMs end
-- Times only grow: an orchestrator with a shorter lease time must not cut what another one has granted.
local function expireAfter(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end

redis.call('SET', prefix .. 'since', sinceMs, 'KEEPTTL')
expireAfter(prefix .. 'since', math.ceil(leaseTtlMs / 2))

local function workerKey(workerId) return prefix .. 'worker:' .. workerId end
local function regionKey(region) return prefix .. 'region:' .. region end
local function claimsKey(workerId, incarnation) return prefix .. 'claims:' .. workerId .. ':' .. incarnation end
local function claimKey(jobId) return prefix .. 'claim:' .. jobId end
local function attemptsKey(jobId) return prefix .. 'attempts:' .. jobId end

local function announceChange() redis.call('PUBLISH', prefix .. 'changes', '') end
local function announceRegistration() redis.call('PUBLISH', prefix .. 'changes', 'registration') end
local function nextUse() return redis.call('INCR', prefix .. 'uses') end

local function readWorker(workerId)
  local fields = redis.call('HMGET', workerKey(workerId),
    'incarnation', 'region', 'address', 'slots', 'version', 'status', 'lastSeen', 'leaseUntil', 'used', 'capabilities',
    'refusal', 'labels', 'keepsId', 'load')
  if not fields[1] then return nil end
  return {
    id = workerId, incarnation = fields[1], region = fields[2], address = fields[3], slots = tonumber(fields[4]),
    version = fields[5], status = fields[6], lastSeen = tonumber(fields[7]), leaseUntil = tonumber(fields[8]),
    used = tonumber(fields[9]), capabilities = fields[10] or '', refusal = fields[11] or '',
    labels = fields[12] or '', keepsId = fields[13] == '1', load = fields[14] or '',
  }
end

local function isAlive(worker) return worker.leaseUntil > nowMs end

-- Each orchestrator has its own view of which workers it reaches.
local function reachedKey(orchestrator) return prefix .. 'reached:' .. orchestrator end
local function missedKey(orchestrator) return prefix .. 'missed:' .. orchestrator end
local function pingMember(worker) return worker.id .. ' ' .. worker.incarnation end

local function isCurrent(key, worker)
  return tonumber(redis.call('ZSCORE', key, pingMember(worker)) or 0) > nowMs
end

local function isReached(orchestrator, worker) return isCurrent(reachedKey(orchestrator), worker) end
local function hasMissed(orchestrator, worker) return isCurrent(missedKey(orchestrator), worker) end

local function movePing(worker, from, to)
  redis.call('ZREM', from, pingMember(worker))
  redis.call('ZREMRANGEBYSCORE', to, '-inf', nowMs)
  redis.call('ZADD', to, nowMs + leaseTtlMs, pingMember(worker))
  redis.call('PEXPIRE', to, leaseTtlMs)
end

local function noteAnswered(orchestrator, worker)
  movePing(worker, missedKey(orchestrator), reachedKey(orchestrator))
end

local function noteMissed(orchestrator, worker)
  movePing(worker, reachedKey(orchestrator), missedKey(orchestrator))
end

local controlsKey, controlsUntilKey = prefix .. 'controls', prefix .. 'controls-until'

-- Those of the worker and of its region; false where there is none.
local function controlsOf(worker)
  return redis.call('HMGET', controlsKey, 'worker:' .. worker.id, 'region:' .. worker.region)
end

local function isInService(worker)
  local controls = controlsOf(worker)
  return not controls[1] and not controls[2]
end

local function isSchedulable(orchestrator, worker)
  return isAlive(worker) and worker.status == 'FREE' and isReached(orchestrator, worker) and isInService(worker)
end

local function keepControl(name)
  redis.call('ZADD', controlsUntilKey, nowMs + keepControlMs, name)
  redis.call('PEXPIRE', controlsKey, keepControlMs)
  redis.call('PEXPIRE', controlsUntilKey, keepControlMs)
end

local function dropControl(name)
  redis.call('HDEL', controlsKey, name)
  redis.call('ZREM', controlsUntilKey, name)
end

-- Both are comma separated names; a name matches only as a whole.
local function canBuild(worker, needs)
  local capabilities = ',' .. worker.capabilities .. ','
  for need in string.gmatch(needs, '[^,]+') do
    if not string.find(capabilities, ',' .. need .. ',', 1, true) then return false end
  end
  return true
end

local function claimedJobs(worker)
  return redis.call('ZRANGEBYSCORE', claimsKey(worker.id, worker.incarnation), '(' .. nowMs, '+inf')
end

local function freeSlots(worker)
  return worker.slots - redis.call('ZCOUNT', claimsKey(worker.id, worker.incarnation), '(' .. nowMs, '+inf')
end

local function readClaim(jobId)
  local fields = redis.call('HMGET', claimKey(jobId), 'worker', 'incarnation', 'attempt', 'address')
  if not fields[1] then return nil end
  return { worker = fields[1], incarnation = fields[2], attempt = tonumber(fields[3]), address = fields[4] }
end

local function isOf(claim, workerId, incarnation, attempt)
  return claim.worker == workerId and claim.incarnation == incarnation and claim.attempt == attempt
end

-- False when it was not cancelled.
local function cancellation(jobId) return redis.call('GET', prefix .. 'cancelled:' .. jobId) end

local function readAttempts(jobId)
  local fields = redis.call('HMGET', attemptsKey(jobId), 'last', 'done')
  return tonumber(fields[1] or 0), tonumber(fields[2] or 0)
end

local function isUnproven(jobId, attempt)
  return tonumber(redis.call('HGET', attemptsKey(jobId), 'unproven')) == attempt
end

-- Called on behalf of an orchestrator that holds the job's message, which shows that the job has no result yet.
local function prove(jobId) redis.call('HDEL', attemptsKey(jobId), 'unproven') end

-- A run of this attempt may exist, so the number cannot be used for another claim.
local function markBegun(jobId, attempt) redis.call('HSET', attemptsKey(jobId), 'begun', attempt) end

local function mayHaveBegun(jobId, attempt)
  return tonumber(redis.call('HGET', attemptsKey(jobId), 'begun') or 0) >= attempt
end

-- Creates the claim, or extends it to a full lease time.
local function putClaim(jobId, workerId, incarnation, attempt, address)
  redis.call('HSET', claimKey(jobId), 'worker', workerId, 'incarnation', incarnation, 'attempt', attempt, 'address', address)
  expireAfter(claimKey(jobId), leaseTtlMs)
  local claims = claimsKey(workerId, incarnation)
  redis.call('ZREMRANGEBYSCORE', claims, '-inf', nowMs)
  redis.call('ZADD', claims, nowMs + redis.call('PTTL', claimKey(jobId)), jobId)
  expireAfter(claims, leaseTtlMs)
  local last = readAttempts(jobId)
  redis.call('HSET', attemptsKey(jobId), 'last', math.max(last, attempt))
  expireAfter(attemptsKey(jobId), math.max(jobMemoryMs, leaseTtlMs))
end

-- Extends the claim of a run that a worker reports, or creates it again when it has ended or was lost and no other run
-- has the job. Replaces a claim of a lower attempt; without a loss there is none, since only `claim` raises it.
-- Returns true when the run has the claim.
local function holdRun(worker, jobId, attempt)
  local claim = readClaim(jobId)
  local last, done = readAttempts(jobId)
  if attempt <= done then return false end
  if claim and claim.attempt >= attempt then
    if not isOf(claim, worker.id, worker.incarnation, attempt) then return false end
  else
    if attempt < last or cancellation(jobId) then return false end
    if last == 0 then redis.call('HSET', attemptsKey(jobId), 'unproven', attempt) end
    if claim then
      redis.call('ZREM', claimsKey(claim.worker, claim.incarnation), jobId)
      redis.call('HDEL', claimKey(jobId), 'since')
    end
  end
  putClaim(jobId, worker.id, worker.incarnation, attempt, worker.address)
  markBegun(jobId, attempt)
  return true
end

-- ARGV from `first` on: job id, attempt, job id, attempt … Returns the jobs whose runs are stale.
local function holdRuns(worker, first)
  local stale = {}
  for index = first, #ARGV, 2 do
    if not holdRun(worker, ARGV[index], tonumber(ARGV[index + 1])) then stale[#stale + 1] = ARGV[index] end
  end
  return stale
end

local function extendLease(workerId)
  local grantedUntil = tonumber(redis.call('HGET', workerKey(workerId), 'leaseUntil') or 0)
  -- Not beyond the longest lease time that the settings allow, for a clock that was set back.
  local leaseUntil = math.max(nowMs + leaseTtlMs, math.min(grantedUntil, nowMs + maxLeaseTtlMs))
  redis.call('HSET', workerKey(workerId), 'lastSeen', nowMs, 'leaseUntil', leaseUntil)
  expireAfter(workerKey(workerId), leaseTtlMs + forgetWorkerMs)
  redis.call('ZADD', prefix .. 'workers', nowMs, workerId)
end
