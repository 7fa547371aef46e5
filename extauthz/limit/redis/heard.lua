-- Returns the number up to which all replicas have heard of changes, and that
-- of the last change. KEYS[1] the number of the last change, KEYS[2] a sorted
-- set of replicas by what they have heard of, KEYS[3] by when they were last
-- there; ARGV for how many milliseconds that counts.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%d', now - tonumber(ARGV[1])))
for _, replica in ipairs(gone) do
  redis.call('ZREM', KEYS[2], replica)
  redis.call('ZREM', KEYS[3], replica)
end
local last = tonumber(redis.call('GET', KEYS[1]) or 0)
local least = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return { tonumber(least[2] or last), last }
