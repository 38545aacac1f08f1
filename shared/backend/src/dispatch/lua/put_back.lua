-- Puts entries back into their places, for whoever has a berth for them first, and wakes a worker.
-- ARGV: prefix, consumer that nobody is, then (tenant, rank, entry) triples.
local prefix = ARGV[1]
for i = 3, #ARGV, 3 do
  local tenant, member = ARGV[i], ARGV[i] .. ':' .. ARGV[i + 1]
  -- An entry that is gone, with its stream perhaps, is nobody's any more.
  redis.pcall('XCLAIM', prefix .. 'q:' .. member, 'workers', ARGV[2], 0, ARGV[i + 2], 'FORCE', 'JUSTID')
  redis.call('SADD', prefix .. 'back', member)
  if redis.call('SADD', prefix .. 'ringed', tenant) == 1 then redis.call('RPUSH', prefix .. 'ring', tenant) end
end
if redis.call('LLEN', prefix .. 'bell') == 0 then redis.call('LPUSH', prefix .. 'bell', '1') end
return 1
