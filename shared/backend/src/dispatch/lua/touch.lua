-- Sets the idle time of a consumer's own entries back to zero.
-- ARGV: prefix, consumer, then (tenant, rank, entry) triples.
for i = 3, #ARGV, 3 do
  -- An entry that is gone, with its stream perhaps, is nobody's any more.
  redis.pcall('XCLAIM', ARGV[1] .. 'q:' .. ARGV[i] .. ':' .. ARGV[i + 1], 'workers', ARGV[2], 0, ARGV[i + 2], 'JUSTID')
end
return 1
