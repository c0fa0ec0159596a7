-- How answers in the background stand. KEYS: of each, where it is noted that it is booked, and that somebody waits for it.
local answer = {}
for i = 1, #KEYS do
  answer[i] = redis.call('GET', KEYS[i]) and 1 or 0
end
return answer
