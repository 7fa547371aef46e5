-- Returns the number of the last change, the number up to which changes are
-- told, and of each address that changed what failed.lua returns, or only its
-- name where it was forgotten. KEYS[2] and KEYS[4] as in failed.lua; KEYS[1]
-- is what the names of addresses' hashes begin with, KEYS[5] and KEYS[6] as the
-- second and third in heard.lua; ARGV after which number, how many, and which
-- replica asks.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local last = tonumber(redis.call('GET', KEYS[4]) or 0)
redis.call('ZADD', KEYS[5], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[6], now, ARGV[3])
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local told = last
if #found == 2 * tonumber(ARGV[2]) then told = tonumber(found[#found]) end
local answer = { last, told }
for i = 1, #found, 2 do
  local state = redis.call('HMGET', KEYS[1] .. found[i], 'o', 'w', 'n', 'b', 'r')
  local opened = tonumber(state[1])
  if not opened or not state[4] then
    answer[#answer + 1] = { found[i] }
  elseif now - opened < tonumber(state[2]) then
    now = math.max(now, opened)
    answer[#answer + 1] = { found[i], now - opened, tonumber(state[3]), math.max(0, now - tonumber(state[4])), state[5] }
  end
end
return answer
