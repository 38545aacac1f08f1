-- Delivers up to `count` entries to a consumer, going round the ring of tenants, of each stream first what was put back; answers {tenant, rank, entry, id}...
-- ARGV: prefix, consumer that nobody is, consumer, count, low_water, then (tenant, live) pairs, in which -1 says that nothing of it may be taken.
local nobody, consumer, count, low_water = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', prefix .. 'epoch') == 0 then return redis.error_reply('WIPED the epoch key is missing') end
local ring, overflow, back = prefix .. 'ring', prefix .. 'overflow', prefix .. 'back'
local live = {}
for i = 6, #ARGV, 2 do live[ARGV[i]] = tonumber(ARGV[i + 1]) end

-- What was put back, oldest first.
local function again(stream, member, wanted)
  if redis.call('SISMEMBER', back, member) == 0 then return {} end
  local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', wanted, nobody)
  if pending.err then pending = {} end
  if #pending < wanted then redis.call('SREM', back, member) end
  local entries = {}
  for _, entry in ipairs(pending) do
    local claimed = redis.call('XCLAIM', stream, 'workers', consumer, 0, entry[1])[1]
    if claimed and claimed[2] then entries[#entries + 1] = claimed end
  end
  return entries
end

-- What was never taken.
local function fresh(stream, wanted)
  local answer = redis.pcall('XREADGROUP', 'GROUP', 'workers', consumer, 'COUNT', wanted, 'STREAMS', stream, '>')
  if type(answer) == 'table' and answer.err then
    redis.call('XGROUP', 'CREATE', stream, 'workers', '0')
    answer = redis.call('XREADGROUP', 'GROUP', 'workers', consumer, 'COUNT', wanted, 'STREAMS', stream, '>')
  end
  return answer and answer[1] and answer[1][2] or {}
end

local function read(stream, member, wanted)
  local entries = again(stream, member, wanted)
  if #entries < wanted then
    for _, entry in ipairs(fresh(stream, wanted - #entries)) do entries[#entries + 1] = entry end
  end
  return entries
end

local taken, refill = {}, false
local tenants = redis.call('LLEN', ring)
local passed = 0 -- tenants in a row that may not take more
while #taken < count and passed < tenants do
  local tenant = redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
  local share = redis.call('HGET', prefix .. 'shares', tenant) or '1 -1'
  local weight, limit = share:match('^(%d+) (-?%d+)$')
  weight, limit = tonumber(weight) or 1, tonumber(limit) or -1
  local turn = count - #taken
  if tenants > 1 then turn = math.min(turn, weight) end
  if limit >= 0 then turn = math.min(turn, limit - (live[tenant] or 0)) end
  if live[tenant] == -1 then turn = 0 end
  if turn <= 0 then
    passed = passed + 1
  else
    local got = 0
    for rank = 0, 2 do
      local member = tenant .. ':' .. rank
      local stream = prefix .. 'q:' .. member
      if got < turn and redis.call('EXISTS', stream) == 1 then
        for _, entry in ipairs(read(stream, member, turn - got)) do
          got = got + 1
          taken[#taken + 1] = { tenant, rank, entry[1], entry[2][2] }
        end
        if not refill and redis.call('XLEN', stream) <= low_water then
          refill = redis.call('SISMEMBER', overflow, member) == 1
        end
      end
    end
    if got > 0 then
      live[tenant] = (live[tenant] or 0) + got
      passed = 0
    else
      -- Nothing undelivered: out of the ring until something is appended.
      redis.call('LREM', ring, -1, tenant)
      redis.call('SREM', prefix .. 'ringed', tenant)
      tenants = tenants - 1
    end
  end
end
if refill then ring_bell(prefix .. 'relay') end
return taken
