-- A gateway says that it lives. KEYS: epoch, gateways.
-- ARGV: gateway, run, lease in ms, the epoch that it knows, gateways that it knows, a new epoch's id, whether everything
-- that it holds is told again, and how long an epoch of unknown past waits.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local gateway, run, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local id = redis.call('HGET', KEYS[1], 'id')
if not id then
  -- Everything was lost, or there was nothing ever: nothing new is given out until those who may hold something
  -- have told it, or what they hold has run out.
  id = ARGV[6]
  local wait = lease
  if ARGV[5] == '' then wait = tonumber(ARGV[8]) end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'id', id, 'ready', string.format('%.0f', now + wait), 'expect', ARGV[5])
end
local lapsed = 0
if ARGV[4] == id then
  if redis.call('HGET', KEYS[1], 'run:' .. gateway) ~= run then return {'taken'} end
  local last = redis.call('ZSCORE', KEYS[2], gateway)
  if not last or tonumber(last) < now then lapsed = 1 end
else
  redis.call('HSET', KEYS[1], 'run:' .. gateway, run)
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now + lease), gateway)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - 60 * lease))
-- What was told to a memory that is lost was not told to this one.
if ARGV[7] == '1' and ARGV[4] == id then redis.call('HSET', KEYS[1], 'in:' .. gateway, '1') end
local ready = tonumber(redis.call('HGET', KEYS[1], 'ready') or '0')
if ready ~= 0 then
  local expected = redis.call('HGET', KEYS[1], 'expect') or ''
  local all = expected ~= ''
  for other in string.gmatch(expected, '[^,]+') do
    if redis.call('HEXISTS', KEYS[1], 'in:' .. other) == 0 then all = false end
  end
  if all or now >= ready then
    ready = 0
    redis.call('HSET', KEYS[1], 'ready', '0')
  end
end
local alive = redis.call('ZRANGEBYSCORE', KEYS[2], string.format('%.0f', now), '+inf')
return {'ok', id, ready == 0 and 1 or 0, lapsed, alive}
