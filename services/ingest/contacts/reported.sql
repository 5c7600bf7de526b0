-- name: mails(event, now, most)^
-- How many of the latest emails of one kind in 30 days were reported in a day, a week and the month. The name is
-- compared with the indexed prefix alone, because it is shorter: with two comparisons PostgreSQL would expect too
-- few events, and fetch all of them instead of reading the index in order.
SELECT count(*) AS checked, min(occurred_at) AS earliest,
    count(*) FILTER (WHERE is_reported AND occurred_at > :now::timestamptz - interval '1 day') AS day,
    count(*) FILTER (WHERE is_reported AND occurred_at > :now::timestamptz - interval '7 days') AS week,
    count(*) FILTER (WHERE is_reported) AS month
FROM (
    SELECT occurred_at, source = 'hogsend' AS is_reported FROM events
    WHERE left(event, 100) = :event AND occurred_at > :now::timestamptz - interval '30 days'
        AND occurred_at <= :now::timestamptz
    ORDER BY occurred_at DESC LIMIT :most
) AS latest;

-- name: unsubscribed(most)^
-- How many contacts were last reported as unsubscribed, among the latest reports of both kinds; and how many
-- reports of unsubscribed contacts are among them. Only the time is regarded for which both kinds were read.
WITH reports AS MATERIALIZED (
    (SELECT event, contact_id, source, properties, occurred_at, received_at FROM events
        WHERE left(event, 100) = 'contact.unsubscribed'
        ORDER BY occurred_at DESC, received_at DESC LIMIT :most)
    UNION ALL
    (SELECT event, contact_id, source, properties, occurred_at, received_at FROM events
        WHERE left(event, 100) = 'contact.subscribed'
        ORDER BY occurred_at DESC, received_at DESC LIMIT :most)
), cutoff AS MATERIALIZED (
    SELECT max(earliest) AS since
    FROM (SELECT min(occurred_at) AS earliest FROM reports GROUP BY event HAVING count(*) = :most) AS cut
), latest AS (
    SELECT DISTINCT ON (coalesce(moved.contact_id, reports.contact_id)) event
    FROM reports
    LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
        AND moved.digest = sha256(reports.contact_id::text::bytea)
    WHERE occurred_at >= coalesce((SELECT since FROM cutoff), '-infinity') AND source = 'hogsend'
        AND coalesce(properties ->> 'scope', 'all') = 'all'
        AND reports.contact_id <> '00000000-0000-0000-0000-000000000000'
    ORDER BY coalesce(moved.contact_id, reports.contact_id), occurred_at DESC, received_at DESC
)
SELECT (SELECT since FROM cutoff) IS NOT NULL AS is_cut,
    (SELECT count(*) FROM latest WHERE event = 'contact.unsubscribed') AS contacts,
    (SELECT count(*) FROM reports WHERE event = 'contact.unsubscribed'
        AND occurred_at >= coalesce((SELECT since FROM cutoff), '-infinity')) AS checked;

-- name: expected(event, since, before)$
-- PostgreSQL's plan, which contains how many events of a name it expects in a span.
EXPLAIN (FORMAT JSON) SELECT FROM events WHERE event = :event
    AND (:since::timestamptz IS NULL OR occurred_at > :since)
    AND (:before::timestamptz IS NULL OR occurred_at <= :before);
