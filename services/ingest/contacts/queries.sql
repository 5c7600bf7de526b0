-- name: lock_stripes(stripes)!
-- Acquire the advisory locks of contact keys, in order, until the transaction ends; 7236 is ingest's class
-- of locks.
SELECT pg_advisory_xact_lock(7236, stripe)
FROM unnest(:stripes::int[]) AS stripe;

-- name: owners(kinds, digests, row_ids)
-- The contacts of keys, each with its key's position; contacts by their own ids, which are keys as well; and
-- keys of erased people, with the time. LIMIT 1 makes each a look-up in an index, whatever size the planner
-- assumes for the tables.
SELECT place, owner.contact_id, NULL::timestamptz AS erased_at
FROM unnest(:kinds::text[], :digests::bytea[]) WITH ORDINALITY AS given (kind, digest, place)
CROSS JOIN LATERAL (
    SELECT contact_id FROM contact_keys
    WHERE kind = given.kind AND digest = given.digest LIMIT 1
) AS owner
UNION ALL
SELECT NULL, existing.id, NULL FROM unnest(:row_ids::uuid[]) AS given (id)
CROSS JOIN LATERAL (SELECT id FROM contacts WHERE id = given.id LIMIT 1) AS existing
UNION ALL
SELECT place, NULL, erased.erased_at
FROM unnest(:kinds::text[], :digests::bytea[]) WITH ORDINALITY AS given (kind, digest, place)
CROSS JOIN LATERAL (
    SELECT erased_at FROM erased_keys
    WHERE kind = given.kind AND digest = given.digest LIMIT 1
) AS erased;

-- name: lock_contacts(ids)
-- Contacts, locked in order of their ids.
SELECT id, source, created_at, external_id, email, email_version, properties, timezone,
    versions, kept_apart, first_seen_at, last_seen_at, restated_at, restated_by
FROM contacts WHERE id = ANY(:ids::uuid[]) ORDER BY id FOR UPDATE;

-- name: save_contacts(contacts)!
-- Insert contacts, or replace all their columns that can change. One JSON text costs the client far less than
-- ten arrays.
INSERT INTO contacts AS stored (id, source, created_at, external_id, email, email_version,
    properties, timezone, versions, kept_apart, first_seen_at, last_seen_at)
SELECT id, source, created_at, external_id, email, email_version,
    properties, timezone, versions, kept_apart, first_seen_at, last_seen_at
FROM json_to_recordset(:contacts::json) AS contact (id uuid, source text, created_at timestamptz,
    external_id text, email text, email_version jsonb, properties jsonb, timezone text,
    versions jsonb, kept_apart text[], first_seen_at timestamptz, last_seen_at timestamptz)
ON CONFLICT (id) DO UPDATE SET
    external_id = excluded.external_id, email = excluded.email,
    email_version = excluded.email_version, properties = excluded.properties,
    timezone = excluded.timezone, versions = excluded.versions,
    kept_apart = excluded.kept_apart, updated_at = now(),
    first_seen_at = excluded.first_seen_at, last_seen_at = excluded.last_seen_at,
    restated_at = NULL, restated_by = NULL;

-- name: mark_seen(ids, first_seen_at, last_seen_at, restated_at, restated_by)!
-- Update contacts that an event repeated or only saw, without their values; see migration 0019. The rows are
-- locked, so their ctid stays valid. For LIMIT 1 see `stored_events`.
UPDATE contacts AS contact SET first_seen_at = seen.first_at, last_seen_at = seen.last_at,
    restated_at = coalesce(seen.restated_at, contact.restated_at),
    restated_by = coalesce(seen.restated_by, contact.restated_by), updated_at = now()
FROM unnest(:ids::uuid[], :first_seen_at::timestamptz[], :last_seen_at::timestamptz[],
    :restated_at::timestamptz[], :restated_by::text[])
    AS seen (id, first_at, last_at, restated_at, restated_by)
CROSS JOIN LATERAL (SELECT ctid FROM contacts WHERE id = seen.id LIMIT 1) AS place
WHERE contact.ctid = place.ctid;

-- name: save_keys(kinds, digests, key_values, contact_ids)!
-- Insert new keys.
INSERT INTO contact_keys (kind, digest, value, contact_id)
SELECT * FROM unnest(:kinds::text[], :digests::bytea[], :key_values::text[], :contact_ids::uuid[]);

-- name: record_merge(loser, survivor, loser_before, survivor_before, parts, kinds, key_values)!
-- Record two contacts and the loser's keys as they were before a merge. Keys that the batch itself added are
-- given, because they are not stored yet.
INSERT INTO contact_merges (loser, survivor, loser_before, survivor_before, loser_keys)
SELECT :loser::uuid, :survivor::uuid, :loser_before::jsonb, :survivor_before::jsonb, (
    SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'value', value)), '[]') FROM (
        SELECT kind, value FROM contact_keys WHERE contact_id = ANY(:parts::uuid[])
        UNION ALL
        SELECT kind, value FROM unnest(:kinds::text[], :key_values::text[]) AS key (kind, value)
    ) AS key);

-- name: move_keys(losers, survivors)!
-- Move all keys of merged contacts to the contacts that survive.
UPDATE contact_keys AS key SET contact_id = merged.survivor
FROM unnest(:losers::uuid[], :survivors::uuid[]) AS merged (loser, survivor)
WHERE key.contact_id = merged.loser;

-- name: delete_contacts(ids)!
-- Delete contacts that were merged into another.
DELETE FROM contacts WHERE id = ANY(:ids::uuid[]);

-- name: contact(ids)^
-- One contact: the first that exists, in the order of the ids.
SELECT id, external_id, email, properties, timezone
FROM contacts WHERE id = ANY(:ids::uuid[]) ORDER BY array_position(:ids::uuid[], id) LIMIT 1;

-- name: fill_timezone(id, timezone)!
-- Set the time zone of a contact without one.
UPDATE contacts SET timezone = :timezone, updated_at = now()
WHERE id = :id AND timezone IS NULL;
