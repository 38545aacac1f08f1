-- Appends ids to the stream of (tenant, priority) as far as its window goes; answers how many.
-- ARGV: prefix, tenant, rank, window, refill (1: the relay), weight, max_concurrent (-1: none), id...
local prefix, tenant, member = ARGV[1], ARGV[2], ARGV[2] .. ':' .. ARGV[3]
local window, refill = tonumber(ARGV[4]), ARGV[5] == '1'
local stream, overflow = prefix .. 'q:' .. member, prefix .. 'overflow'
redis.call('HSET', prefix .. 'shares', tenant, ARGV[6] .. ' ' .. ARGV[7])

local accepted, offered = 0, #ARGV - 7
if refill or redis.call('SISMEMBER', overflow, member) == 0 then
  if redis.call('EXISTS', stream) == 0 then
    redis.call('XGROUP', 'CREATE', stream, 'workers', '0', 'MKSTREAM')
    redis.call('SADD', prefix .. 'streams', member)
  end
  local room = math.max(0, math.min(offered, window - redis.call('XLEN', stream)))
  for i = 8, 7 + room do
    redis.call('XADD', stream, '*', 'id', ARGV[i])
  end
  accepted = room
end
if accepted < offered then
  -- Rows wait in PostgreSQL from here on: nobody but the relay may append until they are through.
  redis.call('SADD', overflow, member)
  if not refill and redis.call('LLEN', prefix .. 'relay') == 0 then redis.call('LPUSH', prefix .. 'relay', '1') end
end
if accepted > 0 then
  if redis.call('SADD', prefix .. 'ringed', tenant) == 1 then redis.call('RPUSH', prefix .. 'ring', tenant) end
  if redis.call('LLEN', prefix .. 'bell') == 0 then redis.call('LPUSH', prefix .. 'bell', '1') end
end
return accepted
