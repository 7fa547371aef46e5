-- Counts a failure of an address.
--
-- KEYS[1]  the address: a hash of o (when its window opened), w (how long that
--          is), n (failures), b (when it was blocked) and r (the last reason).
-- KEYS[2]  a sorted set of addresses by the number of their last change.
-- KEYS[3]  the same addresses by when they may be forgotten.
-- KEYS[4]  the number of the last change.
-- ARGV     address, reason, threshold, window, channel.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local threshold, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local state = redis.call('HMGET', KEYS[1], 'o', 'n', 'b')
local opened, failures, blocked = tonumber(state[1]), tonumber(state[2]), tonumber(state[3])
if opened then now = math.max(now, opened) end
if not opened or now - opened >= window then
  redis.call('DEL', KEYS[1])
  opened, failures, blocked = now, 0, nil
end
failures = failures + 1
redis.call('HSET', KEYS[1], 'o', string.format('%d', opened), 'w', ARGV[4], 'n', failures, 'r', ARGV[2])
if failures >= threshold and not blocked then
  blocked = now
  redis.call('HSET', KEYS[1], 'b', string.format('%d', now))
  redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[4]), ARGV[1])
  redis.call('ZADD', KEYS[3], opened + window, ARGV[1])
  redis.call('PUBLISH', ARGV[5], 'changed')
end
redis.call('PEXPIRE', KEYS[1], opened + window - now + 1000)
local old = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%d', now - 60000), 'LIMIT', 0, 32)
if #old > 0 then
  redis.call('ZREM', KEYS[2], unpack(old))
  redis.call('ZREM', KEYS[3], unpack(old))
end
return { now - opened, failures, blocked and now - blocked or -1, ARGV[2] }
