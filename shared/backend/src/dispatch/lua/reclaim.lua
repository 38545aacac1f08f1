-- Delivers to the caller what a consumer was given long ago and never acknowledged; answers {tenant, rank, entry, id}...
-- ARGV: prefix, consumer that nobody is, consumer (of the caller), idle milliseconds, max.
local nobody, caller, max = ARGV[2], ARGV[3], tonumber(ARGV[5])
local taken, any = {}, false
for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
  local stream = prefix .. 'q:' .. member
  local tenant, rank = member:match('^(.*):(%d)$')
  local summary = redis.pcall('XPENDING', stream, 'workers')
  for _, holder in ipairs(not summary.err and summary[4] or {}) do
    if holder[1] == nobody then
      -- It waits for a berth, not for us; but somebody who did not look for it may have taken its tenant out of the ring.
      any = note_back(tenant, member) or any
    elseif #taken < max then
      for _, entry in ipairs(redis.call('XPENDING', stream, 'workers', 'IDLE', ARGV[4], '-', '+', max - #taken, holder[1])) do
        local claimed = redis.call('XCLAIM', stream, 'workers', caller, 0, entry[1])[1]
        if claimed and claimed[2] then taken[#taken + 1] = { tenant, tonumber(rank), claimed[1], claimed[2][2] } end
      end
    end
  end
  if redis.call('EXISTS', stream) == 0 then redis.call('SREM', prefix .. 'streams', member) end
end
if any then ring_bell(prefix .. 'bell') end
return taken
