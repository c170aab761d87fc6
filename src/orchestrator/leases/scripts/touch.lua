-- ARGV: lease time, job memory, id of this orchestrator, its settings as text.
-- Shows that this orchestrator is running: the common part extends `since`. Returns the settings of the others.
local id, settings = ARGV[3], ARGV[4]
for _, name in ipairs(redis.call('ZRANGEBYSCORE', controlsUntilKey, '-inf', nowMs)) do dropControl(name) end
local key, seenKey = prefix .. 'orchestrators', prefix .. 'orchestrators-seen'
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', seenKey, '-inf', nowMs - forgetOrchestratorMs)) do
  redis.call('ZREM', seenKey, gone)
  redis.call('HDEL', key, gone)
end
redis.call('HSET', key, id, settings)
redis.call('ZADD', seenKey, nowMs, id)
redis.call('PEXPIRE', key, forgetOrchestratorMs)
redis.call('PEXPIRE', seenKey, forgetOrchestratorMs)
local others = {}
local all = redis.call('HGETALL', key)
for index = 1, #all, 2 do
  if all[index] ~= id then others[#others + 1] = all[index + 1] end
end
return others
