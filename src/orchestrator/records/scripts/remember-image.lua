-- ARGV: repository, inputs and digest separated by a space, maximum number of images, how long each is stored in ms.
-- Key images:<repository>: sorted set, image -> when it was last stored, in microseconds so that no two are equal.
local images, memoryMs = KEYS[1] .. 'images:' .. ARGV[1], tonumber(ARGV[4])
local time = redis.call('TIME')
local nowUs = time[1] * 1000000 + time[2]
redis.call('ZADD', images, nowUs, ARGV[2])
redis.call('ZREMRANGEBYSCORE', images, '-inf', nowUs - memoryMs * 1000)
redis.call('ZREMRANGEBYRANK', images, 0, -tonumber(ARGV[3]) - 1)
redis.call('PEXPIRE', images, memoryMs)
return 1
