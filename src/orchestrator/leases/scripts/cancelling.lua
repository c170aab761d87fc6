-- ARGV: lease time, job memory.
-- Returns job id, reason, job id, reason …
local reply = {}
for _, jobId in ipairs(redis.call('SMEMBERS', prefix .. 'cancelling')) do
  local reason = cancellation(jobId)
  if reason then
    table.insert(reply, jobId)
    table.insert(reply, reason)
  else
    redis.call('SREM', prefix .. 'cancelling', jobId)
  end
end
return reply
