-- ARGV: after which place (time of acceptance or +inf, job id or empty), number of jobs, number of bytes.
-- Returns the jobs after it in the list, the latest first, up to the number or as soon as they have that many bytes, and
-- 1 if no job follows them: {{id, place in the list, job, accepted at, summary, last event} …, 1 or 0}. A job whose record
-- has expired has only the first two.
local afterMs, afterId, count, maxBytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

-- By bytes, as the sorted set is ordered: `<` would compare by the locale of the server.
local function precedes(id, other)
  for i = 1, math.min(#id, #other) do
    local byte, otherByte = string.byte(id, i), string.byte(other, i)
    if byte ~= otherByte then return byte < otherByte end
  end
  return #id < #other
end

local jobs, bytes, offset = {}, 0, 0
while true do
  local page = redis.call('ZREVRANGEBYSCORE', KEYS[1] .. 'jobs', afterMs, '-inf', 'WITHSCORES', 'LIMIT', offset, count)
  if #page == 0 then return { jobs, 1 } end
  for i = 1, #page, 2 do
    local id, acceptedAt = page[i], page[i + 1]
    -- Jobs of the same millisecond are in descending order of their ids.
    if acceptedAt ~= afterMs or precedes(id, afterId) then
      if #jobs == count or bytes >= maxBytes then return { jobs, 0 } end
      local fields = redis.call('HMGET', KEYS[1] .. 'job:' .. id, 'job', 'acceptedAt', 'summary')
      local event = redis.call('LINDEX', KEYS[1] .. 'events:' .. id, -1)
      bytes = bytes + #(fields[1] or '') + #(fields[3] or '') + #(event or '')
      table.insert(jobs, { id, acceptedAt, fields[1], fields[2], fields[3], event })
    end
  end
  offset = offset + count
end
