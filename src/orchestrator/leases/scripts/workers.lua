-- ARGV: lease time, job memory, id of this orchestrator. Returns one entry per worker.
local orchestrator = ARGV[3]
local function statusOf(worker, jobs)
  if not isAlive(worker) or hasMissed(orchestrator, worker) then return 'LOST' end
  if worker.status == 'DRAINING' then return 'DRAINING' end
  return (worker.status == 'BUSY' or #jobs >= worker.slots) and 'BUSY' or 'FREE'
end

-- Job id, attempt and start of each claim; the start is unknown after a loss of the data.
local function runsOf(jobs)
  local runs = {}
  for _, jobId in ipairs(jobs) do
    local fields = redis.call('HMGET', claimKey(jobId), 'attempt', 'since')
    if fields[1] then table.insert(runs, { jobId, tonumber(fields[1]), fields[2] }) end
  end
  return runs
end

local entries = {}
for _, workerId in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'workers', nowMs - forgetWorkerMs, '+inf')) do
  local worker = readWorker(workerId)
  if worker then
    local jobs = claimedJobs(worker)
    table.insert(entries, { worker.id, worker.incarnation, worker.region, worker.address, worker.slots, worker.version,
      worker.capabilities, statusOf(worker, jobs), worker.lastSeen, jobs, worker.refusal,
      isAlive(worker) and 1 or 0, isReached(orchestrator, worker) and 1 or 0, worker.labels, worker.keepsId and 1 or 0,
      worker.load, runsOf(jobs), controlsOf(worker) })
  end
end
return entries
