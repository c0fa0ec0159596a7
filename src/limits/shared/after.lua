-- What is known when requests are over, or go on. KEYS: counts. ARGV, five for each: 'd', by how many microseconds it
-- moves, the rate, how far it was as the gateway knows it, and whether it tells that for the first time since this memory
-- was empty; 'm' and a request that has left; 'k', a request that goes on, and its lease in ms.
local t = redis.call('TIME')
local now = (t[1] - 1767225600) * 1000000 + t[2]
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
for i = 1, #KEYS do
  local a = (i - 1) * 5 + 1
  if ARGV[a] == 'd' then
    local delta = tonumber(ARGV[a + 1])
    local kept = redis.call('GET', KEYS[i])
    local at = now
    if kept then at = tonumber(string.match(kept, '^([^|]+)|')) or now end
    -- What is not known here may have been lost.
    if not kept or ARGV[a + 4] == '1' then at = math.max(at, now + tonumber(ARGV[a + 3])) end
    if delta > 0 then at = math.max(at, now) + delta else at = at + delta end
    -- A count that is at nothing stays for a while: one that is not there is one that was lost.
    if kept or at > now then
      local life = math.max(0, math.ceil((at - now) / 1000)) + 1000
      if kept then life = math.max(life, redis.call('PTTL', KEYS[i])) end
      redis.call('SET', KEYS[i], string.format('%.3f', at) .. '|' .. ARGV[a + 2], 'PX', string.format('%.0f', life))
    end
  elseif ARGV[a] == 'm' then
    redis.call('ZREM', KEYS[i], ARGV[a + 1])
  else
    redis.call('ZADD', KEYS[i], string.format('%.0f', now_ms + tonumber(ARGV[a + 2])), ARGV[a + 1])
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', 2 * tonumber(ARGV[a + 2])))
  end
end
return 1
