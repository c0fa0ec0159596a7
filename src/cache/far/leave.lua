-- Nobody makes this answer any more. KEYS: key. ARGV: the name of the place.
local kept = redis.call('GET', KEYS[1])
if kept and string.match(kept, '^claim|[^|]*|[^|]*|(.*)$') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
