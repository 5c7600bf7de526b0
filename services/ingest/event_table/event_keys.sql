-- name: received_at_of(digests)
-- The keys that exist, each with its event's time of receipt, which determines the partition.
SELECT digest, received_at FROM event_keys WHERE digest = ANY(:digests::bytea[]);

-- name: stored_events(sources, ids, names, user_ids, since, before)
-- Stored events, each among those received in a span, with its contact's current key. LIMIT 1 makes each a
-- look-up in an index, whatever size the planner assumes for the tables.
SELECT position, event.received_at, event.backfilled, coalesce((
    SELECT coalesce(external_id, id::text) FROM contacts WHERE id = coalesce((
        SELECT contact_id FROM contact_keys
        WHERE kind = 'row' AND digest = sha256(event.contact_id::text::bytea)), event.contact_id)
    ), '') AS contact_key
FROM unnest(:sources::text[], :ids::text[], :names::text[], :user_ids::text[],
    :since::timestamptz[], :before::timestamptz[])
    WITH ORDINALITY AS given (source, id, event, user_id, since, before, position)
CROSS JOIN LATERAL (
    SELECT received_at, backfilled, contact_id FROM events
    WHERE received_at >= given.since AND received_at < given.before
        AND source = given.source AND id = given.id
        AND hashtextextended(event, 0) = hashtextextended(given.event, 0)
        AND hashtextextended(user_id, 0) = hashtextextended(given.user_id, 0)
        AND event = given.event AND user_id = given.user_id
    LIMIT 1
) AS event;

-- name: move_keys(digests, received_at)!
-- Set the new time of receipt of events; events from before keys existed get a key.
INSERT INTO event_keys (digest, received_at)
SELECT * FROM unnest(:digests::bytea[], :received_at::timestamptz[])
ON CONFLICT (digest) DO UPDATE SET received_at = excluded.received_at;

-- name: forget(digests)!
-- Delete keys.
DELETE FROM event_keys WHERE digest = ANY(:digests::bytea[]);
