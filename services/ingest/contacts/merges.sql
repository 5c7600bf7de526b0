-- name: lock_merge(id)^
-- A merge; two splits of it wait for each other.
SELECT id, at, loser, survivor, loser_before, survivor_before, loser_keys, split_at
FROM contact_merges WHERE id = :id FOR UPDATE;

-- name: parts(survivor)
-- Every merge that made the contact which the survivor of a merge is part of by now.
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
-- Lead the keys that a contact had before its merge to it again.
UPDATE contact_keys AS key SET contact_id = :loser
FROM unnest(:kinds::text[], :digests::bytea[]) AS had (kind, digest)
WHERE key.kind = had.kind AND key.digest = had.digest AND key.contact_id = :current;

-- name: forget_row_key(digest)!
-- A contact's id is no key of another any more.
DELETE FROM contact_keys WHERE kind = 'row' AND digest = :digest;

-- name: move_events(contacts, user_ids, loser)!
-- Give a contact its events since the merge: they name the survivor, or whom it became part of. No
-- time tells them, as an event may be received before a merge and stored after it. The prefix is
-- what the index holds.
UPDATE events SET contact_id = :loser
WHERE left(user_id, 100) IN (SELECT left(id, 100) FROM unnest(:user_ids::text[]) AS id)
    AND user_id = ANY(:user_ids::text[]) AND contact_id = ANY(:contacts::uuid[]);

-- name: rewrite_merge(id, loser_before, survivor_before, loser_keys)!
-- Replace what a merge says that contacts were.
UPDATE contact_merges SET loser_before = :loser_before::jsonb,
    survivor_before = :survivor_before::jsonb, loser_keys = :loser_keys::jsonb WHERE id = :id;

-- name: mark_split(id)!
-- Remember that a merge is undone, and forget what it says of people; see migration 0021.
UPDATE contact_merges SET split_at = now(), loser_before = '{}', survivor_before = NULL,
    loser_keys = '[]' WHERE id = :id;

-- name: details(ids)
-- Contacts in the order of their ids, with some of their keys. Texts of keys may be a MiB long. Keys are
-- found first and sorted then: in their order PostgreSQL would walk along those of all contacts. Limit: see `stored_events`.
SELECT contact.id, external_id, email, timezone, properties, first_seen_at, last_seen_at,
    created_at, updated_at, versions, email_version, restated_at, restated_by,
    (SELECT count(*) FROM contact_keys AS key WHERE key.contact_id = contact.id) AS key_count,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'value', left(value, 200))
            ORDER BY kind, value), '[]')
        FROM (SELECT kind, value
            FROM (SELECT kind, value FROM contact_keys AS key WHERE key.contact_id = contact.id
                OFFSET 0) AS own
            ORDER BY kind, value LIMIT 200) AS part) AS keys
FROM unnest(:ids::uuid[]) WITH ORDINALITY AS wanted (id, position)
CROSS JOIN LATERAL (SELECT * FROM contacts WHERE id = wanted.id LIMIT 1) AS contact
ORDER BY position;

-- name: merges(contact)
-- The latest merges that a contact comes from, and those that were undone, with what leads to the other
-- one now.
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
