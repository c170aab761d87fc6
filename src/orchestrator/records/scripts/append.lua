-- ARGV: job id, memories, event without its number, most events. The event's number.
local event = ARGV[4]
-- Only a job in its ready queue has events: one without a record lost it.
if redis.call('EXISTS', recordKey) == 0 then set('queued', '1') end
local seq = redis.call('HINCRBY', recordKey, 'seq', 1)
redis.call('RPUSH', eventsKey, seq .. ' ' .. event)
redis.call('LTRIM', eventsKey, -tonumber(ARGV[5]), -1)
keepAlive()
return seq
