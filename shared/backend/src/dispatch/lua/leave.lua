-- Puts back whatever a consumer holds, and forgets it. In one step: with a consumer's name goes what is pending under it, and nobody would be given it again.
-- ARGV: prefix, consumer that nobody is, consumer.
for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
  local stream = prefix .. 'q:' .. member
  local pending
  repeat
    pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', 1000, ARGV[3])
    -- No stream, or no group yet.
    if pending.err then break end
    for _, entry in ipairs(pending) do redis.call('XCLAIM', stream, 'workers', ARGV[2], 0, entry[1], 'JUSTID') end
    if #pending > 0 then note_back(member:match('^(.*):%d$'), member) end
  until #pending == 0
  if not pending.err then redis.call('XGROUP', 'DELCONSUMER', stream, 'workers', ARGV[3]) end
end
-- Also for what it was called for and did not take any more.
ring_bell(prefix .. 'bell')
return 1
