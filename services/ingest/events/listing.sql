-- name: known_sources()
-- All sources. Each is one lookup in the index that starts with the source.
WITH RECURSIVE sources AS (
    (SELECT source FROM events ORDER BY source LIMIT 1)
    UNION ALL
    SELECT (SELECT event.source FROM events AS event
        WHERE event.source > sources.source ORDER BY event.source LIMIT 1)
    FROM sources WHERE sources.source IS NOT NULL
)
SELECT source FROM sources WHERE source IS NOT NULL;

-- name: page(by, id, sources, event, user_id, source, occurred_from, occurred_to, before, before_occurred, before_received, before_source, before_id, before_event, before_user, skip, most, offset, limit)
-- Events that match, the latest occurrence first, each with its contact's current key; after a position if
-- one is given. One filter (`by`) selects up to `most` events by its index, and these are compared with the
-- other filters. The last of them is returned even if it does not match, when there may be more after it. An id
-- is looked up in each source, because the key starts with the source.
-- A text shorter than the indexed prefix is compared once: with two comparisons PostgreSQL would expect too few
-- matches, and fetch all events of a frequent name instead of reading the index in order.
WITH checked AS (
    SELECT *, hashtextextended(event, 0) AS event_hash, hashtextextended(user_id, 0) AS user_hash
    FROM events
    WHERE (:by::text <> 'id' OR (id = :id AND source = ANY(:sources::text[])))
        AND (:by <> 'event' OR (left(event, 100) = left(:event, 100)
            AND (length(:event) < 100 OR event = :event)))
        AND (:by <> 'user_id' OR (left(user_id, 100) = left(:user_id, 100)
            AND (length(:user_id) < 100 OR user_id = :user_id)))
        AND (:by <> 'source' OR source = :source)
        AND (:occurred_from::timestamptz IS NULL OR occurred_at >= :occurred_from)
        AND (:occurred_to::timestamptz IS NULL OR occurred_at <= :occurred_to)
        AND (NOT :before::boolean OR (occurred_at <= :before_occurred
            AND (occurred_at, received_at, source, id, hashtextextended(event, 0),
                hashtextextended(user_id, 0)) < (:before_occurred::timestamptz,
                :before_received::timestamptz, :before_source::text, :before_id::text,
                :before_event::bigint, :before_user::bigint)))
    ORDER BY occurred_at DESC, received_at DESC, source DESC, id DESC, event_hash DESC,
        user_hash DESC
    LIMIT :most OFFSET :skip
), counted AS (
    SELECT *, row_number() OVER listed AS place,
        count(*) FILTER (WHERE matches) OVER listed AS matching
    FROM (SELECT *, (:event::text IS NULL OR event = :event)
        AND (:user_id::text IS NULL OR user_id = :user_id)
        AND (:source::text IS NULL OR source = :source) AS matches FROM checked) AS compared
    WINDOW listed AS (ORDER BY occurred_at DESC, received_at DESC, source DESC, id DESC,
        event_hash DESC, user_hash DESC ROWS UNBOUNDED PRECEDING)
), page AS (
    SELECT * FROM counted WHERE (matches AND matching > :offset) OR place = :most LIMIT :limit
)
SELECT page.id, page.event, page.user_id, page.source, page.occurred_at, page.received_at,
    page.properties, page.event_hash, page.user_hash, page.backfilled, page.matches,
    page.place = :most AS is_last,
    coalesce(contact.external_id, contact.id::text, '') AS contact_key
FROM page
LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
    AND moved.digest = sha256(page.contact_id::text::bytea)
LEFT JOIN contacts AS contact ON contact.id = coalesce(moved.contact_id, page.contact_id)
ORDER BY page.occurred_at DESC, page.received_at DESC, page.source DESC, page.id DESC,
    page.event_hash DESC, page.user_hash DESC;

-- name: total(event, user_id, source, by, id, sources, occurred_from, occurred_to, most)^
-- How many of up to `most` events match. The order is that of the index, so that it is used. One filter (`by`)
-- selects the events, and the others are compared afterwards: otherwise PostgreSQL would fetch all events that
-- match two frequent filters.
SELECT count(*) AS checked, count(*) FILTER (WHERE (:event::text IS NULL OR event = :event)
    AND (:user_id::text IS NULL OR user_id = :user_id)
    AND (:source::text IS NULL OR source = :source)) AS counted
FROM (
    SELECT event, user_id, source FROM events
    WHERE (:by::text <> 'id' OR (id = :id AND source = ANY(:sources::text[])))
        AND (:by <> 'event' OR (left(event, 100) = left(:event, 100)
            AND (length(:event) < 100 OR event = :event)))
        AND (:by <> 'user_id' OR (left(user_id, 100) = left(:user_id, 100)
            AND (length(:user_id) < 100 OR user_id = :user_id)))
        AND (:by <> 'source' OR source = :source)
        AND (:occurred_from::timestamptz IS NULL OR occurred_at >= :occurred_from)
        AND (:occurred_to::timestamptz IS NULL OR occurred_at <= :occurred_to)
    ORDER BY occurred_at DESC LIMIT :most
) AS checked;

-- name: expected_total(id, sources, event, user_id, source, occurred_from, occurred_to)$
-- PostgreSQL's plan, which contains how many events it expects to match. The conditions on the indexed prefixes
-- are missing: PostgreSQL would take them for independent, and expect too few events.
EXPLAIN (FORMAT JSON) SELECT FROM events
WHERE (:id::text IS NULL OR (id = :id AND source = ANY(:sources::text[])))
    AND (:event::text IS NULL OR event = :event)
    AND (:user_id::text IS NULL OR user_id = :user_id)
    AND (:source::text IS NULL OR source = :source)
    AND (:occurred_from::timestamptz IS NULL OR occurred_at >= :occurred_from)
    AND (:occurred_to::timestamptz IS NULL OR occurred_at <= :occurred_to);
