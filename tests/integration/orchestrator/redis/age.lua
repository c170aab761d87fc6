-- Makes all keys with a prefix older. KEYS[1]: the prefix; ARGV[1]: by how many ms.
local ageMs = tonumber(ARGV[1])

-- A number this large is a time of day in ms since 1970; counters and durations are smaller. Nil for all others.
local function aged(text)
  local value = tonumber(text)
  return value and value > 1e12 and string.format('%.0f', value - ageMs) or nil
end

local function ageContent(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then
    local value = aged(redis.call('GET', key))
    if value then redis.call('SET', key, value, 'KEEPTTL') end
  elseif kind == 'hash' then
    local fields = redis.call('HGETALL', key)
    for index = 1, #fields, 2 do
      local value = aged(fields[index + 1])
      if value then redis.call('HSET', key, fields[index], value) end
    end
  elseif kind == 'zset' then
    local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for index = 1, #members, 2 do
      local score = aged(members[index + 1])
      if score then redis.call('ZADD', key, score, members[index]) end
    end
  end
end

for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  local ttlMs = redis.call('PTTL', key)
  if ttlMs >= 0 and ttlMs <= ageMs then
    redis.call('DEL', key)
  else
    if ttlMs >= 0 then redis.call('PEXPIRE', key, ttlMs - ageMs) end
    ageContent(key)
  end
end
