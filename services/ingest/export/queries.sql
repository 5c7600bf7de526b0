-- name: known_by(contact)
-- Everything that leads to a contact.
SELECT kind, value FROM contact_keys WHERE contact_id = :contact;

-- name: contact(id)^
-- A contact with all of its columns that are about the person.
SELECT id, source, external_id, email, timezone, properties, kept_apart, first_seen_at,
    last_seen_at, created_at, updated_at
FROM contacts WHERE id = :id;

-- name: keys(contact, kind, digest, limit)
-- What leads to a contact, after a position. Found first and sorted then: in their order PostgreSQL would
-- walk along the keys of all contacts.
SELECT kind, digest, value FROM (
    SELECT kind, digest, value FROM contact_keys WHERE contact_id = :contact OFFSET 0
) AS own
WHERE (kind, digest) > (:kind::text, :digest::bytea)
ORDER BY kind, digest LIMIT :limit;

-- name: merges(contacts, after, limit)
-- Merges that a contact had a part in, after a position.
SELECT id, at, loser, survivor, loser_before, survivor_before, loser_keys, split_at
FROM contact_merges
WHERE (survivor = ANY(:contacts::uuid[]) OR loser = ANY(:contacts::uuid[])) AND id > :after
ORDER BY id LIMIT :limit;

-- name: events(contacts, relation, begins, ends, after, first, end, limit)
-- Events of a contact in a range of a partition's blocks, in their order: by the index on the contact,
-- or by looking through the blocks where it is not built yet or a contact has very many.
SELECT ctid::text AS position, id, event, user_id, source, contact_id, properties, occurred_at,
    received_at, queued_at, stored_at, backfilled, correlation_id
FROM events
WHERE tableoid = :relation AND received_at >= :begins AND received_at < :ends
    AND ctid > :after::text::tid AND ctid >= :first::text::tid AND ctid < :end::text::tid
    AND contact_id = ANY(:contacts::uuid[])
ORDER BY ctid LIMIT :limit;

-- name: count_events(contacts, relation, begins, ends, first, end)$
-- How many there are in a range of a partition's blocks.
SELECT count(*) FROM events
WHERE tableoid = :relation AND received_at >= :begins AND received_at < :ends
    AND ctid >= :first::text::tid AND ctid < :end::text::tid
    AND contact_id = ANY(:contacts::uuid[]);

-- name: audit(names, after_at, after_id, limit)
-- Entries whose resource has one of these names in it, oldest first, after a position.
SELECT id, at, actor, action, resource, status FROM audit
WHERE (at, id) > (:after_at::timestamptz, :after_id::uuid)
    AND (resource = ANY(:names::text[]) OR string_to_array(resource, '/') && :names::text[])
ORDER BY at, id LIMIT :limit;
