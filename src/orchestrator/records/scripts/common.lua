-- Common part of the job record scripts. KEYS[1] is the prefix of every key; ARGV starts with the job id and the
-- memories: how long the record of a finished job and that of an active job is stored, in ms. Keys:
--   job:<job>           hash: job, acceptedAt, correlationId, salt, fingerprints, retryBasis, queued, seq,
--                       replyTo, result, publisher, publisherUntil, published, changedAt (of its state), summary (result
--                       without log), steps
--   jobs                sorted set: all jobs by time of acceptance, for the list of jobs
--   events:<job>        list of events, oldest first
--   supersede:<group>   sorted set: jobs that a later one of this group cancels, by their place
--   supersedings        counter: the places
--   log:<job>           see log-place.lua; deleted when the job begins
local recordKey = KEYS[1] .. 'job:' .. ARGV[1]
local eventsKey = KEYS[1] .. 'events:' .. ARGV[1]
local jobMemoryMs = tonumber(ARGV[2])
local activeMemoryMs = tonumber(ARGV[3])

-- The server's clock, since those of the orchestrators differ.
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)

local function get(field) return redis.call('HGET', recordKey, field) end
local function set(...) redis.call('HSET', recordKey, ...) end

-- From its job's end on a record is stored for the job memory; later changes do not extend that.
local function keepAlive()
  local isFinished = redis.call('HEXISTS', recordKey, 'result') == 1
  local remainingMs = isFinished and redis.call('PTTL', recordKey) or activeMemoryMs
  if remainingMs < 0 then remainingMs = jobMemoryMs end
  redis.call('PEXPIRE', recordKey, remainingMs)
  redis.call('PEXPIRE', eventsKey, remainingMs)
end

-- Jobs whose records have expired leave the list as others enter it: at most about a third of it is expired.
local function enterList(acceptedAtMs)
  local listKey = KEYS[1] .. 'jobs'
  for _, jobId in ipairs(redis.call('ZRANDMEMBER', listKey, 3)) do
    if redis.call('EXISTS', KEYS[1] .. 'job:' .. jobId) == 0 then redis.call('ZREM', listKey, jobId) end
  end
  redis.call('ZADD', listKey, acceptedAtMs, ARGV[1])
  redis.call('PEXPIRE', listKey, activeMemoryMs)
end

local function noteChange() set('changedAt', nowMs) end

-- Zero for a record of a version that did not store it.
local function unchangedForMs() return nowMs - tonumber(get('changedAt') or nowMs) end

-- `replyTo` is a JSON list; an empty one is never written, since Lua cannot distinguish it from an object.
local function noteReplyTo(target)
  if target == '' then return end
  local targets = cjson.decode(get('replyTo') or '[]')
  for _, known in ipairs(targets) do
    if known == target then return end
  end
  table.insert(targets, target)
  set('replyTo', cjson.encode(targets))
end
