-- ARGV: lease time, job memory, "worker" or "region", its id or name, kind ("paused", "drained", or empty: resumed),
-- reason.
-- Returns the control or false, and 0 if it belongs to a worker that has another id after a restart, otherwise 1; or
-- false if the worker is unknown.
local name, kind = ARGV[3] .. ':' .. ARGV[4], ARGV[5]
local known = redis.call('HGET', controlsKey, name)
local worker = ARGV[3] == 'worker' and readWorker(ARGV[4])
if ARGV[3] == 'worker' and not worker and not known then return false end
if kind == '' then
  dropControl(name)
else
  local since, reason = nowMs, ARGV[6]
  local knownKind, knownSinceMs, knownReason = string.match(known or '', '^(%a+) (%d+) (.*)$')
  if knownKind == kind then
    since = knownSinceMs
    if reason == '' then reason = knownReason end
  end
  redis.call('HSET', controlsKey, name, kind .. ' ' .. since .. ' ' .. reason)
  keepControl(name)
end
announceChange()
return { redis.call('HGET', controlsKey, name), worker and not worker.keepsId and 0 or 1 }
