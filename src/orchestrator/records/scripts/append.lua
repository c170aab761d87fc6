-- ARGV: job id, memories, event without its number, maximum number of events. Returns the event's number.
local event = ARGV[4]
-- A job without a record has lost it. QUEUED precedes the offer, which may never be confirmed; later states follow it.
if redis.call('EXISTS', recordKey) == 0 then
  if cjson.decode(event).state ~= 'QUEUED' then set('queued', '1') end
  enterList(nowMs)
end
local seq = redis.call('HINCRBY', recordKey, 'seq', 1)
redis.call('RPUSH', eventsKey, seq .. ' ' .. event)
redis.call('LTRIM', eventsKey, -tonumber(ARGV[5]), -1)
noteChange()
keepAlive()
return seq
