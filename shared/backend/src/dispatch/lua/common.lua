-- Goes before every script.
-- ARGV: prefix, then the script's own.
local prefix = ARGV[1]

-- Puts one token on a bell that has none.
local function ring_bell(bell)
  if redis.call('LLEN', bell) == 0 then redis.call('LPUSH', bell, '1') end
end

-- Puts a tenant that has entries at the end of the ring, unless it is in it; answers whether it was not.
local function line_up(tenant)
  if redis.call('SADD', prefix .. 'ringed', tenant) == 0 then return false end
  redis.call('RPUSH', prefix .. 'ring', tenant)
  return true
end

-- Notes that a stream holds entries that were put back; answers whether its tenant was not in the ring.
local function note_back(tenant, member)
  redis.call('SADD', prefix .. 'back', member)
  return line_up(tenant)
end

