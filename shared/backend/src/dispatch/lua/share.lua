-- Notes a tenant's share of the ring; a share that changed may let a worker take what it had to pass over.
-- ARGV: prefix, tenant, weight, max_concurrent (-1: none).
local share = ARGV[3] .. ' ' .. ARGV[4]
if redis.call('HGET', prefix .. 'shares', ARGV[2]) == share then return 0 end
redis.call('HSET', prefix .. 'shares', ARGV[2], share)
ring_bell(prefix .. 'bell')
return 1
