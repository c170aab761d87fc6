-- ARGV: lease time, job memory, id of this orchestrator, worker id, incarnation.
local worker = readWorker(ARGV[4])
if worker and worker.incarnation == ARGV[5] then noteMissed(ARGV[3], worker) end
return 1
