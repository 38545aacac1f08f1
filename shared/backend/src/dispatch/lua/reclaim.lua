-- Delivers to the caller what a consumer was given long ago and never acknowledged; answers {tenant, rank, entry, id}...
-- A consumer that has had nothing for an hour is forgotten: its worker died. One that did not is made anew when it takes something.
-- ARGV: prefix, consumer that nobody is, consumer (of the caller), idle milliseconds, max.
local prefix, nobody, caller, max = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local FORGOTTEN_AFTER_MS = 3600000
local taken = {}
for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
  local stream = prefix .. 'q:' .. member
  local tenant, rank = member:match('^(.*):(%d)$')
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, 'workers')
  for _, fields in ipairs(consumers.err and {} or consumers) do
    local consumer = {}
    for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
    if consumer.name == nobody then
      -- What was put back waits for a berth, not for us.
    elseif consumer.pending > 0 then
      if #taken >= max then return taken end
      for _, entry in ipairs(redis.call('XPENDING', stream, 'workers', 'IDLE', ARGV[4], '-', '+', max - #taken, consumer.name)) do
        local claimed = redis.call('XCLAIM', stream, 'workers', caller, 0, entry[1])[1]
        if claimed and claimed[2] then taken[#taken + 1] = { tenant, tonumber(rank), claimed[1], claimed[2][2] } end
      end
    elseif consumer.idle > FORGOTTEN_AFTER_MS then
      redis.call('XGROUP', 'DELCONSUMER', stream, 'workers', consumer.name)
    end
  end
  if redis.call('EXISTS', stream) == 0 then redis.call('SREM', prefix .. 'streams', member) end
end
return taken
