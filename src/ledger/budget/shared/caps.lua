-- Agrees with a gateway on how much of budgets it may spend. KEYS: epoch, gateways, then budgets.
-- ARGV: epoch, gateway, run, a number that grows; then for each budget: what the gateway has spent, what it may spend and
-- hold already, what it wants to, whether it wants more than it needs now, the limit, what it knows that all have spent,
-- for how long this is kept (ms, 0 for good), and for how long what is spent counts (ms, 0 for the key's own time).
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'epoch'} end
local gateway, run, turn = ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', KEYS[1], 'run:' .. gateway) ~= run then return {'taken'} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lives = {}
local function alive(other)
  if lives[other] == nil then
    local till = redis.call('ZSCORE', KEYS[2], other)
    lives[other] = (till and tonumber(till) >= now) or false
  end
  return lives[other]
end
if not alive(gateway) then return {'lapsed'} end
local ready = redis.call('HGET', KEYS[1], 'ready') == '0'
local gateways = math.max(1, redis.call('ZCOUNT', KEYS[2], string.format('%.0f', now), '+inf'))
-- Before all have told what they hold, what is known of others here is too little.
local answer = {ready and 'ok' or 'early'}
for i = 3, #KEYS do
  local a = 4 + (i - 3) * 8
  local spent, floor, wanted = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local eager, limit, seen = ARGV[a + 4] == '1', tonumber(ARGV[a + 5]), tonumber(ARGV[a + 6])
  local life, counts = tonumber(ARGV[a + 7]), tonumber(ARGV[a + 8])
  local kept = redis.call('HGETALL', KEYS[i])
  local most, used, taken, stale = 0, 0, 0, false
  for f = 1, #kept, 2 do
    local name, value = kept[f], kept[f + 1]
    if name == 'seen' then
      most = tonumber(value) or 0
    else
      local s, c, r, n, at = string.match(value, '^(%d+)|(%d+)|([^|]*)|(%d+)|(%d+)$')
      s, c, n, at = tonumber(s) or 0, tonumber(c) or 0, tonumber(n) or 0, tonumber(at) or now
      if name == gateway then
        stale = r == run and n >= turn
      elseif counts > 0 and at + counts < now then
        redis.call('HDEL', KEYS[i], name)
      else
        used = used + s
        -- Of a gateway that died, only what it said that it spent counts.
        if alive(name) then taken = taken + math.max(s, c) else taken = taken + s end
      end
    end
  end
  if stale then
    answer[#answer + 1] = -1
    answer[#answer + 1] = 0
    answer[#answer + 1] = 0
  else
    if ready and seen > math.max(most, used + spent) then
      -- Somebody knows of more than is left here: this memory was lost, and not all who spent have told it again.
      most = seen
      redis.call('HSET', KEYS[i], 'seen', string.format('%.0f', most))
    end
    local lost = math.max(0, most - used - spent)
    local cap = floor
    if ready then
      local room = limit - lost - taken
      local want = wanted
      if eager then want = want + math.floor(math.max(0, room - wanted) / (4 * gateways)) end
      cap = math.max(floor, math.min(want, room))
    end
    redis.call('HSET', KEYS[i], gateway, string.format('%.0f|%.0f|%s|%.0f|%.0f', spent, cap, run, turn, now))
    if life > 0 then redis.call('PEXPIRE', KEYS[i], string.format('%.0f', life)) end
    answer[#answer + 1] = string.format('%.0f', cap)
    answer[#answer + 1] = string.format('%.0f', lost + used)
    answer[#answer + 1] = string.format('%.0f', taken - used)
  end
end
return answer
