-- name: stored_events(sources, ids, names, user_ids)
-- Which events of a batch are stored already, and the key their contact is known by now.
SELECT event.source, event.id, event.event, event.user_id, event.received_at,
    coalesce(contact.external_id, contact.id::text, '') AS contact_key
FROM unnest(:sources::text[], :ids::text[], :names::text[], :user_ids::text[])
    AS wanted (source, id, event, user_id)
JOIN events AS event USING (source, id, event, user_id)
LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
    AND moved.digest = sha256(event.contact_id::text::bytea)
LEFT JOIN contacts AS contact ON contact.id = coalesce(moved.contact_id, event.contact_id);

-- name: custom_plans()!
-- Plan list queries for the filters that are really given, so that they use the fitting index.
SET LOCAL plan_cache_mode = force_custom_plan;

-- name: page(event, user_id, source, occurred_from, occurred_to, limit, offset)
-- Events that match, the latest that happened first, each with the key its contact is known by now.
WITH page AS (
    SELECT * FROM events
    WHERE (:event::text IS NULL OR (left(event, 100) = left(:event, 100) AND event = :event))
        AND (:user_id::text IS NULL
            OR (left(user_id, 100) = left(:user_id, 100) AND user_id = :user_id))
        AND (:source::text IS NULL OR source = :source)
        AND (:occurred_from::timestamptz IS NULL OR occurred_at >= :occurred_from)
        AND (:occurred_to::timestamptz IS NULL OR occurred_at <= :occurred_to)
    ORDER BY occurred_at DESC, received_at DESC, id LIMIT :limit OFFSET :offset
)
SELECT page.id, page.event, page.user_id, page.source, page.occurred_at, page.received_at,
    page.properties, coalesce(contact.external_id, contact.id::text, '') AS contact_key
FROM page
LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
    AND moved.digest = sha256(page.contact_id::text::bytea)
LEFT JOIN contacts AS contact ON contact.id = coalesce(moved.contact_id, page.contact_id)
ORDER BY page.occurred_at DESC, page.received_at DESC, page.id;

-- name: total(event, user_id, source, occurred_from, occurred_to)$
-- How many events match.
SELECT count(*) FROM events
WHERE (:event::text IS NULL OR (left(event, 100) = left(:event, 100) AND event = :event))
    AND (:user_id::text IS NULL
        OR (left(user_id, 100) = left(:user_id, 100) AND user_id = :user_id))
    AND (:source::text IS NULL OR source = :source)
    AND (:occurred_from::timestamptz IS NULL OR occurred_at >= :occurred_from)
    AND (:occurred_to::timestamptz IS NULL OR occurred_at <= :occurred_to);
