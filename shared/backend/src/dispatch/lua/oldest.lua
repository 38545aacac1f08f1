-- The id in the first entry of a stream, or nil.
-- ARGV: prefix, tenant, rank.
local entries = redis.call('XRANGE', prefix .. 'q:' .. ARGV[2] .. ':' .. ARGV[3], '-', '+', 'COUNT', 1)
return entries[1] and entries[1][2][2] or false
