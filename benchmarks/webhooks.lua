-- A webhook in PostHog's format, with a new uuid each time.
local number = 0
local run = string.format("%x-%x", os.time(), math.random(1, 2 ^ 31))
local head = '{"event":{"uuid":"' .. run .. "-"
local tail = '","event":"$pageview","distinct_id":"u_42","properties":{"$lib":"web","plan":"free",'
  .. '"$current_url":"https://shop.example/checkout","$browser":"Chrome","value":149.9},'
  .. '"timestamp":"2026-06-01T12:00:00.000Z","url":"https://eu.posthog.com/project/1/events/x"},'
  .. '"person":{"id":"0190","name":"ada@example.com","url":"https://eu.posthog.com/person/x",'
  .. '"properties":{"email":"ada@example.com","plan":"pro","$geoip_country_code":"GB"}}}'

request = function()
  number = number + 1
  return wrk.format("POST", nil, {
    ["Content-Type"] = "application/json",
    ["x-posthog-webhook-secret"] = "bench-secret",
  }, head .. number .. tail)
end
