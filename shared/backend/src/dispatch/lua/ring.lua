-- Puts one token on a bell that has none.
-- ARGV: prefix, bell.
if redis.call('LLEN', ARGV[2]) == 0 then redis.call('LPUSH', ARGV[2], '1') end
return 1
