-- name: lock_stripes(stripes)!
-- Take the stripes of a batch's contact keys, in order, until the transaction ends; 7236 is ours.
SELECT pg_advisory_xact_lock(7236, stripe)
FROM unnest(:stripes::int[]) AS stripe;

-- name: stored_events(sources, ids)
-- Which events of a batch are stored already, and the key their contact is known by now.
SELECT event.source, event.id, event.received_at,
    coalesce(contact.external_id, contact.id::text) AS contact_key
FROM unnest(:sources::text[], :ids::text[]) AS wanted (source, id)
JOIN events AS event USING (source, id)
LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
    AND moved.digest = sha256(event.contact_id::text::bytea)
JOIN contacts AS contact ON contact.id = coalesce(moved.contact_id, event.contact_id);

-- name: owners(kinds, digests, row_ids)
-- Contacts that keys lead to, by position of the key; a live contact's row id is a key as well.
WITH wanted AS (
    SELECT * FROM unnest(:kinds::text[], :digests::bytea[], :row_ids::uuid[])
    WITH ORDINALITY AS key (kind, digest, row_id, position)
)
SELECT position, contact_id FROM wanted JOIN contact_keys USING (kind, digest)
UNION ALL
SELECT position, id FROM wanted JOIN contacts ON id = row_id;

-- name: lock_contacts(ids)
-- Contacts, locked in order of their ids.
SELECT id, source, created_at, external_id, email, email_version, properties, timezone,
    versions, first_seen_at, last_seen_at
FROM contacts WHERE id = ANY(:ids::uuid[]) ORDER BY id FOR UPDATE;

-- name: save_contacts(contacts)!
-- Insert contacts, or replace everything about them that can change; one text costs the client far
-- less than ten arrays.
INSERT INTO contacts AS stored (id, source, created_at, external_id, email, email_version,
    properties, timezone, versions, first_seen_at, last_seen_at)
SELECT id, source, created_at, external_id, email, email_version,
    properties, timezone, versions, first_seen_at, last_seen_at
FROM json_to_recordset(:contacts::json) AS contact (id uuid, source text, created_at timestamptz,
    external_id text, email text, email_version jsonb, properties jsonb, timezone text,
    versions jsonb, first_seen_at timestamptz, last_seen_at timestamptz)
ON CONFLICT (id) DO UPDATE SET
    external_id = excluded.external_id, email = excluded.email,
    email_version = excluded.email_version, properties = excluded.properties,
    timezone = excluded.timezone, versions = excluded.versions, updated_at = now(),
    first_seen_at = excluded.first_seen_at, last_seen_at = excluded.last_seen_at;

-- name: save_keys(kinds, digests, key_values, contact_ids)!
-- Insert keys that led to no contact before.
INSERT INTO contact_keys (kind, digest, value, contact_id)
SELECT * FROM unnest(:kinds::text[], :digests::bytea[], :key_values::text[], :contact_ids::uuid[]);

-- name: move_keys(losers, survivors)!
-- Point every key of merged contacts to the contact that survives.
UPDATE contact_keys AS key SET contact_id = merged.survivor
FROM unnest(:losers::uuid[], :survivors::uuid[]) AS merged (loser, survivor)
WHERE key.contact_id = merged.loser;

-- name: delete_contacts(ids)!
-- Remove contacts that were merged into another.
DELETE FROM contacts WHERE id = ANY(:ids::uuid[]);

-- name: custom_plans()!
-- Plan list queries for the filters that are really given, so that they use the fitting index.
SET LOCAL plan_cache_mode = force_custom_plan;

-- name: page(event, user_id, source, limit, offset)
-- Events that match, newest first, each with the key its contact is known by now.
WITH page AS (
    SELECT * FROM events
    WHERE (:event::text IS NULL OR (left(event, 100) = left(:event, 100) AND event = :event))
        AND (:user_id::text IS NULL
            OR (left(user_id, 100) = left(:user_id, 100) AND user_id = :user_id))
        AND (:source::text IS NULL OR source = :source)
    ORDER BY received_at DESC, id LIMIT :limit OFFSET :offset
)
SELECT page.id, page.event, page.user_id, page.source, page.occurred_at, page.received_at,
    page.properties, coalesce(contact.external_id, contact.id::text) AS contact_key
FROM page
LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
    AND moved.digest = sha256(page.contact_id::text::bytea)
JOIN contacts AS contact ON contact.id = coalesce(moved.contact_id, page.contact_id)
ORDER BY page.received_at DESC, page.id;

-- name: total(event, user_id, source)$
-- How many events match.
SELECT count(*) FROM events
WHERE (:event::text IS NULL OR (left(event, 100) = left(:event, 100) AND event = :event))
    AND (:user_id::text IS NULL
        OR (left(user_id, 100) = left(:user_id, 100) AND user_id = :user_id))
    AND (:source::text IS NULL OR source = :source);
