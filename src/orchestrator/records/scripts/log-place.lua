-- KEYS[1] is the prefix of every key. ARGV: job id, attempt, memory in ms, orchestrator, and either a place as JSON and
-- 1 if the log is missing, or "" and how long a right to copy is valid, in ms. Key log:<job>, a hash: attempt -> place,
-- attempt:copy -> the orchestrator that copies the log, and until when.
local key, attempt, memoryMs, orchestrator, place = KEYS[1] .. 'log:' .. ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = redis.call('HGET', key, attempt)
local isKept = known and cjson.decode(known).kind ~= 'missing'

if place ~= '' then
  if isKept and ARGV[6] == '1' then return 'kept' end
  redis.call('HSET', key, attempt, place)
  redis.call('HDEL', key, attempt .. ':copy')
  redis.call('PEXPIRE', key, memoryMs)
  return 'noted'
end

if isKept then return 'kept' end
-- The server's clock, since those of the orchestrators differ.
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local untilMs, copier = string.match(redis.call('HGET', key, attempt .. ':copy') or '', '^(%d+) (.*)$')
if copier and copier ~= orchestrator and tonumber(untilMs) > nowMs then return 'taken' end
redis.call('HSET', key, attempt .. ':copy', string.format('%.0f %s', nowMs + ARGV[6], orchestrator))
redis.call('PEXPIRE', key, memoryMs)
return 'granted'
