-- Appends anew what a consumer was given long ago and never acknowledged; answers how many.
-- ARGV: prefix, consumer (of the caller), idle milliseconds.
local prefix, moved = ARGV[1], 0
for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
  local stream = prefix .. 'q:' .. member
  local tenant = member:match('^(.*):%d$')
  local cursor = '0-0'
  for _ = 1, 100 do
    local answer = redis.pcall('XAUTOCLAIM', stream, 'workers', ARGV[2], ARGV[3], cursor, 'COUNT', 100)
    if type(answer) ~= 'table' or answer.err then break end
    for _, entry in ipairs(answer[2]) do
      if entry and entry[2] then
        redis.call('XADD', stream, '*', 'id', entry[2][2])
        redis.call('XACK', stream, 'workers', entry[1])
        redis.call('XDEL', stream, entry[1])
        moved = moved + 1
      end
    end
    cursor = answer[1]
    if cursor == '0-0' then break end
  end
  if redis.call('EXISTS', stream) == 0 then redis.call('SREM', prefix .. 'streams', member)
  elseif moved > 0 and redis.call('SADD', prefix .. 'ringed', tenant) == 1 then
    redis.call('RPUSH', prefix .. 'ring', tenant)
  end
end
if moved > 0 and redis.call('LLEN', prefix .. 'bell') == 0 then redis.call('LPUSH', prefix .. 'bell', '1') end
return moved
