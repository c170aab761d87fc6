-- ARGV: lease time, job memory. Shows that an orchestrator is running: the common part extends `since`.
return 1
