-- name: erasure(id)^
-- The erasure of a contact, by any id that the contact had.
SELECT id, contact_id, requested_at, finished_at, events, messages
FROM erasures WHERE :id = ANY(contact_ids) ORDER BY requested_at DESC LIMIT 1;

-- name: keys(contact)
-- Everything that leads to a contact.
SELECT kind, digest, value FROM contact_keys WHERE contact_id = :contact;

-- name: record_erasure(id, contact, contacts, person)!
-- Record the job; any replica can repeat everything after it.
INSERT INTO erasures (id, contact_id, contact_ids, person, requested_at, due_at)
VALUES (:id, :contact, :contacts, :person::jsonb, clock_timestamp(), now());

-- name: remember_digests(erasure, kinds, digests)!
-- Keep what was erased from coming back with what happened before.
INSERT INTO erased_keys AS known (kind, digest, erased_at)
SELECT key.kind, key.digest, erasure.requested_at
FROM erasures AS erasure, unnest(:kinds::text[], :digests::bytea[]) AS key (kind, digest)
WHERE erasure.id = :erasure
ON CONFLICT (kind, digest) DO UPDATE SET erased_at = excluded.erased_at;

-- name: forget_keys(contact)!
-- Forget what leads to a contact.
DELETE FROM contact_keys WHERE contact_id = :contact;

-- name: forget_merges(contacts)!
-- Forget the merges a contact had a part in, with what they say about it.
DELETE FROM contact_merges WHERE survivor = ANY(:contacts::uuid[]) OR loser = ANY(:contacts::uuid[]);

-- name: forget_contact(contact)!
-- Forget a contact.
DELETE FROM contacts WHERE id = :contact;

-- name: claim(begun, most, seconds)
-- Take jobs that are due for a while; they are due again afterwards, should this replica die.
UPDATE erasures SET due_at = now() + make_interval(secs => :seconds)
WHERE id IN (SELECT id FROM erasures WHERE finished_at IS NULL AND due_at <= now()
        AND (announced_at IS NOT NULL) = :begun
    ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING id, contact_id, contact_ids, person, requested_at, announced_at, swept_at;

-- name: renew(ids, swept, begun, seconds)!
-- Go on having taken jobs, but for those whose next step is due at a time of its own by now.
UPDATE erasures SET due_at = now() + make_interval(secs => :seconds)
FROM unnest(:ids::uuid[], :swept::boolean[]) AS taken (id, is_swept)
WHERE erasures.id = taken.id AND finished_at IS NULL AND (announced_at IS NOT NULL) = :begun
    AND (swept_at IS NOT NULL) = taken.is_swept;

-- name: mark_begun(id)!
-- Remember that subscribers were told, and have the streams swept now, unless another replica was
-- sooner: the second sweep must not come right after the first.
UPDATE erasures SET announced_at = now(), due_at = now() WHERE id = :id AND announced_at IS NULL;

-- name: add_deleted(id, events, messages)!
-- Count what was deleted.
UPDATE erasures SET events = events + :events, messages = messages + :messages WHERE id = :id;

-- name: mark_swept(id, seconds)!
-- Remember the first sweep, and when the second one is due.
UPDATE erasures SET swept_at = coalesce(swept_at, now()),
    due_at = now() + make_interval(secs => :seconds)
WHERE id = :id;

-- name: finish(id)!
-- Forget whom the job was about.
UPDATE erasures SET finished_at = now(), person = NULL WHERE id = :id;

-- name: lock_events(contacts, relation, begins, ends, limit)
-- Events of a person in one partition, locked until they are deleted.
SELECT ctid, source, id, event, user_id FROM events
WHERE contact_id = ANY(:contacts::uuid[]) AND tableoid = :relation
    AND received_at >= :begins AND received_at < :ends
LIMIT :limit FOR UPDATE;

-- name: delete_events(relation, begins, ends, places)!
-- Delete events of one partition by where they lie, while they are locked.
DELETE FROM events
WHERE ctid = ANY(:places::tid[]) AND tableoid = :relation
    AND received_at >= :begins AND received_at < :ends;
