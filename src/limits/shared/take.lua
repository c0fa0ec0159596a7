-- Takes from all counts of a request, or from none. KEYS: epoch, then counts.
-- ARGV: epoch, the request's name, lease in ms; then for each count: its kind, and
-- 'r': by how many microseconds it moves, how many there are at most, how many the gateway knows of, the rate, and
-- whether the gateway tells what it knows for the first time since this memory was empty;
-- 'c': how many at once.
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'epoch'} end
local t = redis.call('TIME')
-- Since 2026, so that fractions of a microsecond still fit into a number.
local now = (t[1] - 1767225600) * 1000000 + t[2]
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
local refused, wait = 0, 0
local ahead = {}
for i = 2, #KEYS do
  local a = 4 + (i - 2) * 6
  if ARGV[a] == 'r' then
    local span, most, known, rate = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
    local kept = redis.call('GET', KEYS[i])
    if kept then
      local at, of = string.match(kept, '^([^|]+)|([^|]+)$')
      local left = math.max(0, (tonumber(at) or 0) - now)
      of = tonumber(of) or rate
      if of ~= rate and rate > 0 then left = left * of / rate end
      -- What one gateway knew may be lost here, and another have begun anew.
      if ARGV[a + 5] == '1' then left = math.max(left, known) end
      ahead[i] = left
    else
      -- Nothing is known here: what the gateway knows counts, in case that this memory was lost.
      ahead[i] = known
    end
    local over = ahead[i] + span - most
    if refused == 0 and over > 1 then refused, wait = i - 1, over end
  else
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now_ms))
    ahead[i] = redis.call('ZCARD', KEYS[i])
    if refused == 0 and ahead[i] >= tonumber(ARGV[a + 1]) then refused = i - 1 end
  end
end
local answer = {refused, math.ceil(wait)}
for i = 2, #KEYS do
  local a = 4 + (i - 2) * 6
  local value = ahead[i]
  if refused == 0 then
    if ARGV[a] == 'r' then
      value = value + tonumber(ARGV[a + 1])
      redis.call('SET', KEYS[i], string.format('%.3f', now + value) .. '|' .. ARGV[a + 4], 'PX', string.format('%.0f', math.ceil(value / 1000) + 1000))
    else
      value = value + 1
      redis.call('ZADD', KEYS[i], string.format('%.0f', now_ms + tonumber(ARGV[3])), ARGV[2])
      redis.call('PEXPIRE', KEYS[i], string.format('%.0f', 2 * tonumber(ARGV[3])))
    end
  end
  answer[#answer + 1] = math.floor(value + 0.5)
end
return answer
