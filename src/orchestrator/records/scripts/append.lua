-- ARGV: job id, memories, event without its number, maximum number of events. Returns the event's number.
local event = ARGV[4]
-- Only a job in its ready queue has events, so a job without a record has lost it.
if redis.call('EXISTS', recordKey) == 0 then set('queued', '1') end
local seq = redis.call('HINCRBY', recordKey, 'seq', 1)
redis.call('RPUSH', eventsKey, seq .. ' ' .. event)
redis.call('LTRIM', eventsKey, -tonumber(ARGV[5]), -1)
keepAlive()
return seq
