-- name: erasure(id)^
-- The erasure of a contact, by any id that the contact had.
SELECT id, contact_id, requested_at, finished_at, events, messages
FROM erasures WHERE :id = ANY(contact_ids) ORDER BY requested_at DESC LIMIT 1;

-- name: keys(contact)
-- All keys of a contact.
SELECT kind, digest, value FROM contact_keys WHERE contact_id = :contact;

-- name: record_erasure(id, contact, contacts, person)!
-- Record the job; any replica can do, and repeat, every later step.
INSERT INTO erasures (id, contact_id, contact_ids, person, requested_at, due_at)
VALUES (:id, :contact, :contacts, :person::jsonb, clock_timestamp(), now());

-- name: remember_digests(erasure, kinds, digests)!
-- Remember digests of the erased keys: events from before the erasure are dropped by them.
INSERT INTO erased_keys (kind, digest, erased_at)
SELECT key.kind, key.digest, erasure.requested_at
FROM erasures AS erasure, unnest(:kinds::text[], :digests::bytea[]) AS key (kind, digest)
WHERE erasure.id = :erasure
ON CONFLICT (kind, digest) DO UPDATE SET erased_at = excluded.erased_at;

-- name: forget_keys(contact)!
-- Delete all keys of a contact.
DELETE FROM contact_keys WHERE contact_id = :contact;

-- name: forget_merges(contacts)!
-- Delete the records of merges that a contact took part in; they contain its data.
DELETE FROM contact_merges WHERE survivor = ANY(:contacts::uuid[]) OR loser = ANY(:contacts::uuid[]);

-- name: forget_contact(contact)!
-- Delete a contact.
DELETE FROM contacts WHERE id = :contact;

-- name: claim(announced, limit, seconds)
-- Claim jobs that are due, for some seconds. If this replica dies, they are due again afterwards.
UPDATE erasures SET due_at = now() + make_interval(secs => :seconds)
WHERE id IN (SELECT id FROM erasures WHERE finished_at IS NULL AND due_at <= now()
        AND (announced_at IS NOT NULL) = :announced
    ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING id, contact_id, contact_ids, person, requested_at, announced_at, swept_at;

-- name: renew(ids, swept, announced, seconds)!
-- Extend claims. A job whose step was finished meanwhile keeps the time at which its next one is due.
UPDATE erasures SET due_at = now() + make_interval(secs => :seconds)
FROM unnest(:ids::uuid[], :swept::boolean[]) AS claimed (id, is_swept)
WHERE erasures.id = claimed.id AND finished_at IS NULL AND (announced_at IS NOT NULL) = :announced
    AND (swept_at IS NOT NULL) = claimed.is_swept;

-- name: mark_announced(id)!
-- Record that the erasure was announced, and have the first sweep due now. Does nothing if another replica
-- was sooner: otherwise the second sweep would follow the first at once.
UPDATE erasures SET announced_at = now(), due_at = now() WHERE id = :id AND announced_at IS NULL;

-- name: add_deleted(id, events, messages)!
-- Add to the numbers of deleted events and messages.
UPDATE erasures SET events = events + :events, messages = messages + :messages WHERE id = :id;

-- name: mark_swept(id, seconds)!
-- Record a sweep, and when the next one is due.
UPDATE erasures SET swept_at = coalesce(swept_at, now()),
    due_at = now() + make_interval(secs => :seconds)
WHERE id = :id;

-- name: finish(id, messages, seconds)^
-- Finish a job whose last sweep deleted some number of messages, and delete the person's identities from it. If
-- there were any, the job finishes only if its first sweep was some seconds ago.
UPDATE erasures SET finished_at = now(), person = NULL
WHERE id = :id AND (:messages::integer = 0 OR swept_at < now() - make_interval(secs => :seconds))
RETURNING id;

-- name: lock_events(contacts, relation, begins, ends, limit)
-- Events of a person in one partition, locked until they are deleted.
SELECT ctid, source, id, event, user_id FROM events
WHERE contact_id = ANY(:contacts::uuid[]) AND tableoid = :relation
    AND received_at >= :begins AND received_at < :ends
LIMIT :limit FOR UPDATE;

-- name: delete_events(relation, begins, ends, places)!
-- Delete locked events of one partition by their row addresses (ctid).
DELETE FROM events
WHERE ctid = ANY(:places::tid[]) AND tableoid = :relation
    AND received_at >= :begins AND received_at < :ends;
