-- ARGV: job id, memories, how long the record must not have changed, in ms.
-- Returns 1 if the job counts as not queued from now on.
if not get('queued') or get('result') or unchangedForMs() < tonumber(ARGV[4]) then return 0 end
redis.call('HDEL', recordKey, 'queued')
noteChange()
keepAlive()
return 1
