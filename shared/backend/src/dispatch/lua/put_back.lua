-- Puts entries back into their places, for whoever has a berth for them first, and wakes a worker.
-- ARGV: prefix, consumer that nobody is, then (tenant, rank, entry) triples.
for i = 3, #ARGV, 3 do
  local tenant, member = ARGV[i], ARGV[i] .. ':' .. ARGV[i + 1]
  -- An entry that is gone, with its stream perhaps, is nobody's any more.
  redis.pcall('XCLAIM', prefix .. 'q:' .. member, 'workers', ARGV[2], 0, ARGV[i + 2], 'FORCE', 'JUSTID')
  note_back(tenant, member)
end
ring_bell(prefix .. 'bell')
return 1
