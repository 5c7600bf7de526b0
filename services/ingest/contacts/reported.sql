-- name: mails(event, now, most)^
-- The latest emails of one kind in 30 days, as many as are looked at, and how many of them were reported
-- in a day, a week and the month. By the prefix alone, which a short name is: compared twice, PostgreSQL
-- would expect few, and rather fetch all than walk along the index.
SELECT count(*) AS looked, min(occurred_at) AS earliest,
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
-- Contacts that were last reported as unsubscribed, of the latest reports of either kind, as many as are
-- looked at; and how many that they unsubscribed are among these, since when both kinds are known.
WITH said AS MATERIALIZED (
    (SELECT event, contact_id, source, properties, occurred_at, received_at FROM events
        WHERE left(event, 100) = 'contact.unsubscribed'
        ORDER BY occurred_at DESC, received_at DESC LIMIT :most)
    UNION ALL
    (SELECT event, contact_id, source, properties, occurred_at, received_at FROM events
        WHERE left(event, 100) = 'contact.subscribed'
        ORDER BY occurred_at DESC, received_at DESC LIMIT :most)
), known AS MATERIALIZED (
    SELECT max(earliest) AS since
    FROM (SELECT min(occurred_at) AS earliest FROM said GROUP BY event HAVING count(*) = :most) AS cut
), latest AS (
    SELECT DISTINCT ON (coalesce(moved.contact_id, said.contact_id)) event
    FROM said
    LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
        AND moved.digest = sha256(said.contact_id::text::bytea)
    WHERE occurred_at >= coalesce((SELECT since FROM known), '-infinity') AND source = 'hogsend'
        AND coalesce(properties ->> 'scope', 'all') = 'all'
        AND said.contact_id <> '00000000-0000-0000-0000-000000000000'
    ORDER BY coalesce(moved.contact_id, said.contact_id), occurred_at DESC, received_at DESC
)
SELECT (SELECT since FROM known) IS NOT NULL AS is_cut,
    (SELECT count(*) FROM latest WHERE event = 'contact.unsubscribed') AS contacts,
    (SELECT count(*) FROM said WHERE event = 'contact.unsubscribed'
        AND occurred_at >= coalesce((SELECT since FROM known), '-infinity')) AS looked;

-- name: expected(event, since, before)$
-- PostgreSQL's plan, which says how many events of a name it expects in a span.
EXPLAIN (FORMAT JSON) SELECT FROM events WHERE event = :event
    AND (:since::timestamptz IS NULL OR occurred_at > :since)
    AND (:before::timestamptz IS NULL OR occurred_at <= :before);
