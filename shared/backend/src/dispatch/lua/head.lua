-- The id in the first entry that no consumer was given, or nil.
-- ARGV: prefix, tenant, rank.
local stream = ARGV[1] .. 'q:' .. ARGV[2] .. ':' .. ARGV[3]
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if type(groups) ~= 'table' or groups.err or not groups[1] then return false end
local last = '0-0'
for i = 1, #groups[1], 2 do
  if groups[1][i] == 'last-delivered-id' then last = groups[1][i + 1] end
end
local entries = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)
return entries[1] and entries[1][2][2] or false
