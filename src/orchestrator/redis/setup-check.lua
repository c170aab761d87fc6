-- KEYS[1] is the prefix of every key. Runs each command that other scripts and clients use, on keys of its own, and
-- returns those that fail, each followed by its error.
local failed = {}
local function try(command, ...)
  local reply = redis.pcall(command, ...)
  if type(reply) ~= 'table' or not reply.err then return end
  failed[#failed + 1] = command
  failed[#failed + 1] = reply.err
end

local function key(kind) return KEYS[1] .. 'setup-check:' .. kind end
local text, hash, set, sorted, list = key('text'), key('hash'), key('set'), key('sorted'), key('list')

try('TIME')
try('SET', text, '1', 'KEEPTTL')
try('GET', text)
try('INCR', text)
try('PEXPIRE', text, 60000)
try('PTTL', text)
try('EXISTS', text)
try('HSET', hash, 'field', '1', 'other', '2')
try('HGET', hash, 'field')
try('HMGET', hash, 'field')
try('HGETALL', hash)
try('HEXISTS', hash, 'field')
try('HINCRBY', hash, 'field', 1)
try('HDEL', hash, 'field')
try('SADD', set, 'member')
try('SMEMBERS', set)
try('SREM', set, 'member')
try('ZADD', sorted, 1, 'member')
try('ZSCORE', sorted, 'member')
try('ZCOUNT', sorted, '-inf', '+inf')
try('ZRANGE', sorted, 0, -1)
try('ZREVRANGE', sorted, 0, -1)
try('ZRANGEBYSCORE', sorted, '-inf', '+inf')
try('ZREMRANGEBYSCORE', sorted, '-inf', 0)
try('ZREMRANGEBYRANK', sorted, 1, 1)
try('ZREM', sorted, 'member')
try('RPUSH', list, 'element')
try('LRANGE', list, 0, 0)
try('LTRIM', list, 0, 0)
try('DEL', text, hash, set, sorted, list)
-- Without a change, this only makes orchestrators look at free slots once more.
try('PUBLISH', KEYS[1] .. 'changes', '')
return failed
