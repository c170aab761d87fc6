-- ARGV: job id, memories.
set('queued', '1')
keepAlive()
return 1
