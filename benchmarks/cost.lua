-- Webhooks in PostHog's format, of many people. Each has a new uuid of version 7, which starts with a
-- time in milliseconds; the time advances by one millisecond for each webhook.
local number = 0
local people = tonumber(os.getenv("PEOPLE"))
local keyed = os.getenv("KEYED") == "1"
local started = os.time() * 1000
local run = string.format("7%03x-8%03x", math.random(0, 4095), math.random(0, 4095))

request = function()
  number = number + 1
  local person = number % people
  local time = started + number
  local id = string.format("%08x-%04x-%s-%012x", math.floor(time / 65536), time % 65536, run, number)
  local body = '{"event":{"uuid":"' .. id .. '","event":"$pageview","distinct_id":"u_'
    .. person .. '","properties":{"$lib":"web","plan":"free",'
    .. '"$current_url":"https://shop.example/checkout","$browser":"Chrome","value":149.9},'
    .. '"timestamp":"2026-06-01T12:00:00.000Z","url":"https://eu.posthog.com/project/1/events/x"},'
    .. '"person":{"id":"0190","name":"u' .. person .. '@example.com","url":"https://eu.posthog.com/person/x",'
    .. '"properties":{"email":"u' .. person .. '@example.com","plan":"pro","$geoip_country_code":"GB"}}}'
  local headers = {
    ["Content-Type"] = "application/json",
    ["x-posthog-webhook-secret"] = "bench-secret",
  }
  if keyed then
    headers["idempotency-key"] = id
  end
  return wrk.format("POST", nil, headers, body)
end
