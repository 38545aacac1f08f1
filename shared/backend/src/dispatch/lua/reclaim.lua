-- Delivers to the caller what a consumer was given long ago and never acknowledged; answers {tenant, rank, entry, id}...
-- ARGV: prefix, consumer (of the caller), idle milliseconds, max.
local prefix, max = ARGV[1], tonumber(ARGV[4])
local taken = {}
for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
  local stream = prefix .. 'q:' .. member
  local tenant, rank = member:match('^(.*):(%d)$')
  local cursor = '0-0'
  for _ = 1, 100 do
    if #taken >= max then return taken end
    local answer = redis.pcall('XAUTOCLAIM', stream, 'workers', ARGV[2], ARGV[3], cursor, 'COUNT', max - #taken)
    if type(answer) ~= 'table' or answer.err then break end
    for _, entry in ipairs(answer[2]) do
      if entry and entry[2] then taken[#taken + 1] = { tenant, tonumber(rank), entry[1], entry[2][2] } end
    end
    cursor = answer[1]
    if cursor == '0-0' then break end
  end
  if redis.call('EXISTS', stream) == 0 then redis.call('SREM', prefix .. 'streams', member) end
end
return taken
