-- ARGV: job id, memories. The job's message is removed from its queue: its result need not be stored longer than others.
if get('result') and redis.call('PTTL', recordKey) > jobMemoryMs then
  redis.call('PEXPIRE', recordKey, jobMemoryMs)
  keepAlive()
end
return 1
