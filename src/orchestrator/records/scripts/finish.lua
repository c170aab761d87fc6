-- ARGV: job id, memories, result. {"published"}, or {"publish", result, reply to as JSON}.
if not get('result') then
  set('result', ARGV[4])
  redis.call('PEXPIRE', recordKey, jobMemoryMs)
  keepAlive()
end
if get('published') then return { 'published' } end
return { 'publish', get('result'), get('replyTo') or '[]' }
