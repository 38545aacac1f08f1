-- Appends ids to the streams of some (tenant, priority), to each as far as its window goes; answers how many, group by group.
-- ARGV: prefix, window, refill (1: the relay), then groups of: tenant, rank, weight, max_concurrent (-1: none), n, and n ids.
local window, refill = tonumber(ARGV[2]), ARGV[3] == '1'
local overflow = prefix .. 'overflow'
local answer, any, call_relay = {}, false, false
local at = 4
while at <= #ARGV do
  local tenant, member = ARGV[at], ARGV[at] .. ':' .. ARGV[at + 1]
  local stream, offered, first = prefix .. 'q:' .. member, tonumber(ARGV[at + 4]), at + 5
  redis.call('HSET', prefix .. 'shares', tenant, ARGV[at + 2] .. ' ' .. ARGV[at + 3])
  local accepted = 0
  if refill or redis.call('SISMEMBER', overflow, member) == 0 then
    local length = redis.call('XLEN', stream)
    if length == 0 and redis.call('EXISTS', stream) == 0 then
      redis.call('XGROUP', 'CREATE', stream, 'workers', '0', 'MKSTREAM')
      redis.call('SADD', prefix .. 'streams', member)
    end
    accepted = math.max(0, math.min(offered, window - length))
    for i = first, first + accepted - 1 do
      redis.call('XADD', stream, '*', 'id', ARGV[i])
    end
  end
  if accepted < offered then
    -- Rows wait in PostgreSQL from here on: nobody but the relay may append until they are through.
    redis.call('SADD', overflow, member)
    call_relay = not refill
  end
  if accepted > 0 then
    any = true
    line_up(tenant)
  end
  answer[#answer + 1] = accepted
  at = first + offered
end
if call_relay then ring_bell(prefix .. 'relay') end
if any then ring_bell(prefix .. 'bell') end
return answer
