-- ARGV: lease time, job memory, worker id, incarnation.
local worker = readWorker(ARGV[3])
if worker and worker.incarnation == ARGV[4] then redis.call('HSET', workerKey(worker.id), 'suspect', '1') end
return 1
