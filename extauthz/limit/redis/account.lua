-- Carries out one request, as lease.Account does.
--
-- KEYS[1]  the key's account: a hash of t (time), n (tokens ever leased),
--          g (generation) and for each minute its number = tokens.
-- ARGV     limit, lease, tokens, span, latest, seen, farthest, then pairs of a
--          lease to give back and how many of its tokens.
--
-- What was leased to a minute is in a hash of its own, KEYS[1]:minute, lease =
-- tokens, which has the key's hash tag and vanishes soon after the minute.
local account = KEYS[1]
local limit, lease, tokens = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local span, latest, seen, farthest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local minute, hour2, held = 60000, 7200000, 60000
local generation = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local own, begin = now, now
if farthest > 0 and farthest < begin then begin = farthest end
if latest > 0 and latest < now then now = latest end

local known, total, before, out = false, 0, '', 0
local slots = {}
local stored = redis.call('HGETALL', account)
for i = 1, #stored, 2 do
  local field, value = stored[i], stored[i + 1]
  if field == 't' then
    known = true
    now = math.max(now, tonumber(value))
  elseif field == 'n' then
    total = tonumber(value)
  elseif field == 'g' then
    before = value
  else
    slots[#slots + 1] = { tonumber(field), tonumber(value) }
  end
end
begin = math.max(begin, now)
local present = math.floor(now / minute)

local current, gone = {}, {}
for _, slot in ipairs(slots) do
  if present - slot[1] >= 61 or slot[2] == 0 then
    gone[#gone + 1] = slot[1]
  else
    current[slot[1]] = slot[2]
    out = out + slot[2]
  end
end
if #gone > 0 then redis.call('HDEL', account, unpack(gone)) end

for i = 8, #ARGV, 2 do
  for m = present - 2, math.floor(begin / minute) + 2 do
    local leases = account .. ':' .. m
    local entry = redis.call('HGET', leases, ARGV[i])
    if entry then
      redis.call('HDEL', leases, ARGV[i])
      local had, to = string.match(entry, '(%d+):(%d+)')
      local amount = math.min(tonumber(ARGV[i + 1]), tonumber(had), current[m] or 0)
      if tonumber(to) >= now and amount > 0 then
        current[m] = current[m] - amount
        out = out - amount
        redis.call('HINCRBY', account, m, -amount)
      end
      break
    end
  end
end

local function add(m, amount)
  current[m] = (current[m] or 0) + amount
  out = out + amount
  redis.call('HINCRBY', account, m, amount)
end

local q = math.max(1, math.floor(limit / 64))
local charged = 0
if not known and seen > 0 then
  charged = limit
elseif total < seen then
  charged = seen - total + q
elseif known and before ~= generation and out > 0 then
  charged = q
end
total = math.max(total, seen)
charged = math.min(charged, math.max(0, limit - out))
if charged > 0 then add(math.floor((begin + minute) / minute), charged) end

local granted = math.min(tokens, math.max(0, limit - out))
if granted > 0 then
  local ends = begin + span
  local m = math.floor(ends / minute)
  add(m, granted)
  local leases = account .. ':' .. m
  redis.call('HSET', leases, lease, granted .. ':' .. string.format('%d', ends + held))
  redis.call('PEXPIRE', leases, 4 * minute)
  total = total + granted
end
redis.call('HSET', account, 't', string.format('%d', now), 'n', string.format('%d', total), 'g', generation)
redis.call('PEXPIRE', account, hour2)

local reset = 0
if out > 0 then
  local order = {}
  for m, amount in pairs(current) do
    if amount > 0 then order[#order + 1] = m end
  end
  table.sort(order)
  local rest = out
  for _, m in ipairs(order) do
    rest = rest - current[m]
    if rest < limit then
      reset = (m + 61) * minute - now
      break
    end
  end
end
return { granted, math.max(0, limit - out), reset, total, own, charged, generation }
