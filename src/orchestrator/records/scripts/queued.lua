-- ARGV: job id, memories. Returns 1 if the job has a result.
set('queued', '1')
keepAlive()
return get('result') and 1 or 0
