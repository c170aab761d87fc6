-- ARGV: lease time, job memory. Region and free slots in turn.
local byRegion = {}
for _, workerId in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'workers', nowMs - leaseTtlMs, '+inf')) do
  local worker = readWorker(workerId)
  if worker and isSchedulable(worker) then
    local free = freeSlots(worker)
    if free > 0 then byRegion[worker.region] = (byRegion[worker.region] or 0) + free end
  end
end
local reply = {}
for region, free in pairs(byRegion) do
  table.insert(reply, region)
  table.insert(reply, free)
end
return reply
