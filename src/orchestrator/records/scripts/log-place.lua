-- KEYS[1] is the prefix of every key. ARGV: job id, attempt, memory in ms, then either a place as JSON and the kinds of
-- places that it does not replace, comma separated; or "", how long a right to copy is valid, in ms, and the orchestrator.
-- Key log:<job>, a hash: attempt -> place, attempt:copy -> until when which orchestrator copies the log.
local key, attempt, memoryMs, place = KEYS[1] .. 'log:' .. ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HGET', key, attempt)
local kind = known and cjson.decode(known).kind

if place ~= '' then
  if kind and string.find(',' .. ARGV[5] .. ',', ',' .. kind .. ',', 1, true) then return 'kept' end
  redis.call('HSET', key, attempt, place)
  redis.call('HDEL', key, attempt .. ':copy')
  redis.call('PEXPIRE', key, memoryMs)
  return 'noted'
end

local validMs, orchestrator = ARGV[5], ARGV[6]
if kind and kind ~= 'missing' then return 'kept' end
-- The server's clock, since those of the orchestrators differ.
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local untilMs, copier = string.match(redis.call('HGET', key, attempt .. ':copy') or '', '^(%d+) (.*)$')
if copier and copier ~= orchestrator and tonumber(untilMs) > nowMs then return 'taken' end
redis.call('HSET', key, attempt .. ':copy', string.format('%.0f %s', nowMs + validMs, orchestrator))
redis.call('PEXPIRE', key, memoryMs)
return 'granted'
