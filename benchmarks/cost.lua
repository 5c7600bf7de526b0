-- Webhooks as PostHog sends them, of many people, each with a new uuid.
local number = 0
local people = tonumber(os.getenv("PEOPLE"))
local keyed = os.getenv("KEYED") == "1"
local run = string.format("%x-%x", os.time(), math.random(1, 2 ^ 31))

request = function()
  number = number + 1
  local person = number % people
  local body = '{"event":{"uuid":"' .. run .. "-" .. number .. '","event":"$pageview","distinct_id":"u_'
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
    headers["idempotency-key"] = run .. "-" .. number
  end
  return wrk.format("POST", nil, headers, body)
end
