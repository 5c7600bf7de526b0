-- name: current_time()$
-- The time by PostgreSQL's clock.
SELECT now();

-- name: events_between(since, until, received_before, after, after_occurred, after_received, after_source, after_id, after_event, after_user, limit)
-- Events that occurred in a span and were received before a moment, in order of occurrence, each with its
-- contact's current key. Without events from a backfill, which may never have been announced, and without
-- events of a person whose erasure has not deleted them yet.
WITH page AS (
    SELECT *, hashtextextended(event, 0) AS event_hash, hashtextextended(user_id, 0) AS user_hash
    FROM events
    WHERE occurred_at >= :since AND occurred_at < :until AND NOT backfilled
        AND (:received_before::timestamptz IS NULL OR received_at < :received_before)
        AND NOT EXISTS (SELECT FROM erasures
            WHERE finished_at IS NULL AND events.contact_id = ANY(contact_ids))
        AND (NOT :after::boolean OR (occurred_at >= :after_occurred
            AND (occurred_at, received_at, source, id, hashtextextended(event, 0),
                hashtextextended(user_id, 0)) > (:after_occurred::timestamptz,
                :after_received::timestamptz, :after_source::text, :after_id::text,
                :after_event::bigint, :after_user::bigint)))
    ORDER BY occurred_at, received_at, source, id, event_hash, user_hash
    LIMIT :limit
)
SELECT page.id, page.event, page.user_id, page.source, page.occurred_at, page.received_at,
    page.properties, page.event_hash, page.user_hash, page.correlation_id,
    coalesce(contact.external_id, contact.id::text, '') AS contact_key
FROM page
LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
    AND moved.digest = sha256(page.contact_id::text::bytea)
LEFT JOIN contacts AS contact ON contact.id = coalesce(moved.contact_id, page.contact_id)
ORDER BY page.occurred_at, page.received_at, page.source, page.id, page.event_hash, page.user_hash;
