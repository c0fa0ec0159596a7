-- Tells which breakers are open, and hears the same of others. KEYS: hints, gateways. ARGV: gateway, what it tells.
if ARGV[2] == '[]' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], 60000)
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answer = {}
local kept = redis.call('HGETALL', KEYS[1])
for f = 1, #kept, 2 do
  if kept[f] ~= ARGV[1] then
    local till = redis.call('ZSCORE', KEYS[2], kept[f])
    if till and tonumber(till) >= now then
      answer[#answer + 1] = kept[f + 1]
    else
      redis.call('HDEL', KEYS[1], kept[f])
    end
  end
end
return answer
