-- ARGV: job id, memories, job, accepted at, reply to and correlation id (or empty), salt, fingerprints as JSON, basis of
-- a retry as JSON (or empty).
-- Returns {"new", accepted at}, {"active", unchanged for ms}, {"finished", result}, {"conflict", the job's fingerprints},
-- or {"salted", salt}: the record has another salt, so nothing was decided; the caller repeats the call with that salt.
local salt = get('salt')
if salt and salt ~= ARGV[8] then return { 'salted', salt } end
if salt and get('fingerprints') ~= ARGV[9] then return { 'conflict', get('fingerprints') } end
local result = get('result')
-- An ended job whose record has expired had the same id: its logs are not those of this job.
if redis.call('EXISTS', recordKey) == 0 then redis.call('DEL', KEYS[1] .. 'log:' .. ARGV[1]) end
if result then return { 'finished', result } end
if not get('job') then
  set('job', ARGV[4], 'acceptedAt', ARGV[5], 'correlationId', ARGV[7], 'salt', ARGV[8], 'fingerprints', ARGV[9],
    'retryBasis', ARGV[10])
  enterList(ARGV[5])
end
noteReplyTo(ARGV[6])
keepAlive()
if not get('changedAt') then noteChange() end
if get('queued') then return { 'active', unchangedForMs() } end
return { 'new', get('acceptedAt') }
