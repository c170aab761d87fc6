-- ARGV: job id, memories, result, how long its publisher publishes alone (0: it has the job's message, and may take all
-- the time it needs). {"published"}, {"publishing"}, or {"publish", result, reply to as JSON, correlation id}.
local aloneForMs = tonumber(ARGV[5])
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local isFirst = not get('result')
if isFirst then
  set('result', ARGV[4])
  redis.call('PEXPIRE', recordKey, jobMemoryMs)
  keepAlive()
end
if get('published') then return { 'published' } end
if aloneForMs > 0 then
  if not isFirst then return { 'published' } end
  set('publishedAloneUntil', nowMs + aloneForMs)
elseif nowMs < tonumber(get('publishedAloneUntil') or 0) then
  return { 'publishing' }
end
return { 'publish', get('result'), get('replyTo') or '[]', get('correlationId') or '' }
