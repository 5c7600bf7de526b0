-- name: all_keys(contact)
-- All keys of a contact.
SELECT kind, value FROM contact_keys WHERE contact_id = :contact;

-- name: contact(id)^
-- A contact, with all columns that are about the person.
SELECT id, source, external_id, email, timezone, properties, kept_apart, first_seen_at,
    last_seen_at, created_at, updated_at
FROM contacts WHERE id = :id;

-- name: keys(contact, kind, digest, limit)
-- Keys of a contact, after a position. OFFSET 0 has PostgreSQL select them by the contact and sort them
-- then. Otherwise it would read the keys of all contacts in order.
SELECT kind, digest, value FROM (
    SELECT kind, digest, value FROM contact_keys WHERE contact_id = :contact OFFSET 0
) AS own
WHERE (kind, digest) > (:kind::text, :digest::bytea)
ORDER BY kind, digest LIMIT :limit;

-- name: merges(contacts, after, limit)
-- Merges that a contact took part in, after a position.
SELECT id, at, loser, survivor, loser_before, survivor_before, loser_keys, split_at
FROM contact_merges
WHERE (survivor = ANY(:contacts::uuid[]) OR loser = ANY(:contacts::uuid[])) AND id > :after
ORDER BY id LIMIT :limit;

-- name: events(contacts, relation, begins, ends, after, first, end, limit)
-- Events of a contact in a range of a partition's blocks, in the order of the table. PostgreSQL uses the
-- index on the contact. It reads the blocks where the index is not built yet, or a contact has very many events.
SELECT ctid::text AS position, id, event, user_id, source, contact_id, properties, occurred_at,
    received_at, queued_at, stored_at, backfilled, correlation_id
FROM events
WHERE tableoid = :relation AND received_at >= :begins AND received_at < :ends
    AND ctid > :after::text::tid AND ctid >= :first::text::tid AND ctid < :end::text::tid
    AND contact_id = ANY(:contacts::uuid[])
ORDER BY ctid LIMIT :limit;

-- name: count_events(contacts, relation, begins, ends, first, end)$
-- Number of a contact's events in a range of a partition's blocks.
SELECT count(*) FROM events
WHERE tableoid = :relation AND received_at >= :begins AND received_at < :ends
    AND ctid >= :first::text::tid AND ctid < :end::text::tid
    AND contact_id = ANY(:contacts::uuid[]);

-- name: audit(names, after_at, after_id, limit)
-- Entries of the audit trail whose resource is, or contains as a path segment, one of these names; oldest
-- first, after a position.
SELECT id, at, actor, action, resource, status FROM audit
WHERE (at, id) > (:after_at::timestamptz, :after_id::uuid)
    AND (resource = ANY(:names::text[]) OR string_to_array(resource, '/') && :names::text[])
ORDER BY at, id LIMIT :limit;
