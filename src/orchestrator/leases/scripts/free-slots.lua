-- ARGV: lease time, job memory, id of this orchestrator.
-- Returns {region, capabilities, free slots} for each group of workers with the same region and capabilities.
local groups, byName = {}, {}
for _, workerId in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'workers', nowMs - leaseTtlMs, '+inf')) do
  local worker = readWorker(workerId)
  local free = worker and isSchedulable(ARGV[3], worker) and freeSlots(worker) or 0
  if free > 0 then
    local name = worker.region .. ' ' .. worker.capabilities
    if not byName[name] then
      byName[name] = { worker.region, worker.capabilities, 0 }
      table.insert(groups, byName[name])
    end
    byName[name][3] = byName[name][3] + free
  end
end
return groups
