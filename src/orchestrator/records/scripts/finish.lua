-- ARGV: job id, memories, result, publisher, its time to live in ms, how long the result is stored in ms, summary,
-- build steps as JSON (or empty).
-- Returns {"published"}, {"publishing"}, or {"publish", result, reply to as JSON, correlation id}.
if not get('result') then
  if redis.call('EXISTS', recordKey) == 0 then enterList(nowMs) end
  set('result', ARGV[4], 'summary', ARGV[8], 'steps', ARGV[9])
  redis.call('PEXPIRE', recordKey, ARGV[7])
  keepAlive()
end
if get('published') then return { 'published' } end
if get('publisher') ~= ARGV[5] and nowMs < tonumber(get('publisherUntil') or 0) then return { 'publishing' } end
set('publisher', ARGV[5], 'publisherUntil', nowMs + tonumber(ARGV[6]))
return { 'publish', get('result'), get('replyTo') or '[]', get('correlationId') or '' }
