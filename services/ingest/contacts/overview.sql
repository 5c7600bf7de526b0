-- name: events_in_a_day(now, most)$
-- The number of events in the last day, counted up to a number.
SELECT count(*) FROM (SELECT FROM events WHERE occurred_at > :now::timestamptz - interval '1 day'
    AND occurred_at <= :now::timestamptz LIMIT :most) AS counted;

-- name: expected_events_in_a_day(now)$
-- PostgreSQL's plan, which contains how many events of the last day it expects.
EXPLAIN (FORMAT JSON) SELECT FROM events WHERE occurred_at > :now::timestamptz - interval '1 day'
    AND occurred_at <= :now::timestamptz;
