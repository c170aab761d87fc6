-- ARGV: job id, memories, publisher, its time to live from now on in ms (0: it has given up).
if get('publisher') == ARGV[4] then set('publisherUntil', nowMs + tonumber(ARGV[5])) end
return 1
