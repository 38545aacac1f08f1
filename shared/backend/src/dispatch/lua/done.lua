-- Acknowledges and deletes entries; a stream without entries goes.
-- ARGV: prefix, then (tenant, rank, entry) triples.
for i = 2, #ARGV, 3 do
  local member = ARGV[i] .. ':' .. ARGV[i + 1]
  local stream = prefix .. 'q:' .. member
  redis.pcall('XACK', stream, 'workers', ARGV[i + 2])
  redis.call('XDEL', stream, ARGV[i + 2])
  if redis.call('EXISTS', stream) == 1 and redis.call('XLEN', stream) == 0 then
    redis.call('DEL', stream)
    redis.call('SREM', prefix .. 'streams', member)
  end
end
return 1
