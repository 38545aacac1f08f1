-- Notes a tenant's share of the ring; a share that changed may let a worker take what it had to pass over.
-- ARGV: prefix, tenant, weight, max_concurrent (-1: none).
local prefix, share = ARGV[1], ARGV[3] .. ' ' .. ARGV[4]
if redis.call('HGET', prefix .. 'shares', ARGV[2]) == share then return 0 end
redis.call('HSET', prefix .. 'shares', ARGV[2], share)
if redis.call('LLEN', prefix .. 'bell') == 0 then redis.call('LPUSH', prefix .. 'bell', '1') end
return 1
