-- Forgets an address and returns whether it was blocked. KEYS as in
-- failed.lua; ARGV address, for how long others must hear of it, channel.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local state = redis.call('HMGET', KEYS[1], 'o', 'w', 'b')
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[4]), ARGV[1])
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[2]), ARGV[1])
redis.call('PUBLISH', ARGV[3], 'changed')
if state[3] and now - tonumber(state[1]) < tonumber(state[2]) then return 1 end
return 0
