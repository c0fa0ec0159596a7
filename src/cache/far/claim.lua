-- What is known under a key: an answer, or that a gateway is making it; else the place is ours. KEYS: key, gateways.
-- ARGV: the hash of what is asked, the gateway, for how many ms the place is kept, the name of the place.
local kept = redis.call('GET', KEYS[1])
if kept and string.sub(kept, 1, 6) ~= 'claim|' then return {'kept', kept} end
if kept then
  local asks, gateway = string.match(kept, '^claim|([^|]*)|([^|]*)|')
  if gateway and gateway ~= ARGV[2] then
    local t = redis.call('TIME')
    local till = redis.call('ZSCORE', KEYS[2], gateway)
    -- The place of a gateway that died is free.
    if till and tonumber(till) >= t[1] * 1000 + math.floor(t[2] / 1000) then
      if asks ~= ARGV[1] then return {'conflict'} end
      return {'theirs'}
    end
  end
end
redis.call('SET', KEYS[1], 'claim|' .. ARGV[1] .. '|' .. ARGV[2] .. '|' .. ARGV[4], 'PX', ARGV[3])
return {'ours'}
