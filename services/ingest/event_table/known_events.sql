-- name: known(digests)
-- Which keys are there, and where their events lie.
SELECT digest, received_at FROM event_keys WHERE digest = ANY(:digests::bytea[]);

-- name: stored_events(sources, ids, names, user_ids, since, before)
-- Events that are stored, each received within a time, and the key their contact is known by now. The
-- limit makes it one look-up in an index for each event, whatever the planner takes the tables for.
SELECT position, event.received_at, event.backfilled, coalesce((
    SELECT coalesce(external_id, id::text) FROM contacts WHERE id = coalesce((
        SELECT contact_id FROM contact_keys
        WHERE kind = 'row' AND digest = sha256(event.contact_id::text::bytea)), event.contact_id)
    ), '') AS contact_key
FROM unnest(:sources::text[], :ids::text[], :names::text[], :user_ids::text[],
    :since::timestamptz[], :before::timestamptz[])
    WITH ORDINALITY AS wanted (source, id, event, user_id, since, before, position)
CROSS JOIN LATERAL (
    SELECT received_at, backfilled, contact_id FROM events
    WHERE received_at >= wanted.since AND received_at < wanted.before
        AND source = wanted.source AND id = wanted.id
        AND hashtextextended(event, 0) = hashtextextended(wanted.event, 0)
        AND hashtextextended(user_id, 0) = hashtextextended(wanted.user_id, 0)
        AND event = wanted.event AND user_id = wanted.user_id
    LIMIT 1
) AS event;

-- name: move_keys(digests, received_at)!
-- Events that were received anew; those from before there were keys get one.
INSERT INTO event_keys (digest, received_at)
SELECT * FROM unnest(:digests::bytea[], :received_at::timestamptz[])
ON CONFLICT (digest) DO UPDATE SET received_at = excluded.received_at;

-- name: forget(digests)!
-- Forget keys.
DELETE FROM event_keys WHERE digest = ANY(:digests::bytea[]);
