-- ARGV: job id, memories, job, accepted at, reply to and correlation id (or empty).
-- Returns {"new", accepted at}, {"active"} or {"finished", result}.
local result = get('result')
if result then return { 'finished', result } end
if not get('job') then set('job', ARGV[4], 'acceptedAt', ARGV[5], 'correlationId', ARGV[7]) end
noteReplyTo(ARGV[6])
keepAlive()
if get('queued') then return { 'active' } end
return { 'new', get('acceptedAt') }
