-- name: lock_merge(id)^
-- A merge, locked: concurrent splits of the same merge wait for each other.
SELECT id, at, loser, survivor, loser_before, survivor_before, loser_keys, split_at
FROM contact_merges WHERE id = :id FOR UPDATE;

-- name: related_merges(survivor)
-- All merges that led to the current contact of a merge's survivor, which may have been merged further.
WITH RECURSIVE chain (contact) AS (
    SELECT :survivor::uuid
    UNION
    SELECT merge.survivor FROM chain
    JOIN contact_merges AS merge ON merge.loser = chain.contact AND merge.split_at IS NULL
)
SELECT merge.id, merge.survivor, merge.loser_before, merge.survivor_before, merge.loser_keys
FROM chain JOIN contact_merges AS merge ON merge.survivor = chain.contact
WHERE merge.split_at IS NULL;

-- name: move_keys_back(kinds, digests, current, loser)!
-- Return the keys to a contact that it had before its merge.
UPDATE contact_keys AS key SET contact_id = :loser
FROM unnest(:kinds::text[], :digests::bytea[]) AS former (kind, digest)
WHERE key.kind = former.kind AND key.digest = former.digest AND key.contact_id = :current;

-- name: delete_row_key(digest)!
-- Delete the key that leads from a contact's id to another contact.
DELETE FROM contact_keys WHERE kind = 'row' AND digest = :digest;

-- name: move_events(contacts, user_ids, loser)!
-- Return to a contact its events since the merge, which are stored under the survivor or a contact it was merged
-- into. They cannot be selected by time: an event may be received before a merge and stored after it. The
-- condition on the prefix is for the index.
UPDATE events SET contact_id = :loser
WHERE left(user_id, 100) IN (SELECT left(id, 100) FROM unnest(:user_ids::text[]) AS id)
    AND user_id = ANY(:user_ids::text[]) AND contact_id = ANY(:contacts::uuid[]);

-- name: rewrite_merge(id, loser_before, survivor_before, loser_keys)!
-- Replace the contacts in the record of a merge.
UPDATE contact_merges SET loser_before = :loser_before::jsonb,
    survivor_before = :survivor_before::jsonb, loser_keys = :loser_keys::jsonb WHERE id = :id;

-- name: mark_split(id)!
-- Record that a merge is undone, and delete the people's data from its record; see migration 0021.
UPDATE contact_merges SET split_at = now(), loser_before = '{}', survivor_before = NULL,
    loser_keys = '[]' WHERE id = :id;

-- name: details(ids)
-- Contacts in the order of the ids, with some of their keys, whose texts may be a MiB long. OFFSET 0 has
-- PostgreSQL select the keys first and sort them then: otherwise it would read the keys of all contacts in
-- order. For LIMIT 1 see `stored_events`.
SELECT contact.id, external_id, email, timezone, properties, first_seen_at, last_seen_at,
    created_at, updated_at, versions, email_version, restated_at, restated_by,
    (SELECT count(*) FROM contact_keys AS key WHERE key.contact_id = contact.id) AS key_count,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'value', left(value, 200))
            ORDER BY kind, value), '[]')
        FROM (SELECT kind, value
            FROM (SELECT kind, value FROM contact_keys AS key WHERE key.contact_id = contact.id
                OFFSET 0) AS own
            ORDER BY kind, value LIMIT 200) AS part) AS keys
FROM unnest(:ids::uuid[]) WITH ORDINALITY AS given (id, position)
CROSS JOIN LATERAL (SELECT * FROM contacts WHERE id = given.id LIMIT 1) AS contact
ORDER BY position;

-- name: merges(contact)
-- The latest merges into a contact, also those that were undone, with the keys of the other contact: those it
-- had before the merge, or has now.
SELECT merge.id, merge.at, merge.loser, merge.split_at, (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
            'kind', key ->> 'kind', 'value', left(key ->> 'value', 200))), '[]')
    FROM (SELECT key FROM jsonb_array_elements(merge.loser_keys) AS key
        UNION ALL
        SELECT jsonb_build_object('kind', kind, 'value', value) FROM contact_keys
        WHERE contact_id = merge.loser
        LIMIT 20) AS part) AS keys
FROM contact_merges AS merge
WHERE merge.survivor = :contact
    OR merge.split_at IS NULL AND merge.loser::text IN (
        SELECT value FROM contact_keys WHERE kind = 'row' AND contact_id = :contact)
ORDER BY merge.id DESC LIMIT 100;
