-- name: raised()
-- Problems that the operator was notified of and that are not resolved.
SELECT kind, subject FROM notices WHERE state = 'raised' ORDER BY kind, subject;

-- name: raise_notice(kind, subject, id, pause)$
-- Record the notice that a problem exists, unless it is recorded already or was resolved a moment ago.
INSERT INTO notices AS last (kind, subject, state, id) VALUES (:kind, :subject, 'raised', :id)
ON CONFLICT (kind, subject) DO UPDATE SET state = 'raised', id = excluded.id, told_at = now()
WHERE last.state = 'resolved' AND last.told_at <= now() - :pause::interval
RETURNING true;

-- name: resolve_notice(kind, subject, id)$
-- Record the notice that a problem is resolved, if its existence was notified.
UPDATE notices SET state = 'resolved', id = :id, told_at = now()
WHERE kind = :kind AND subject = :subject AND state = 'raised'
RETURNING true;

-- name: last_notice(kind, subject)^
-- The last notice about a problem.
SELECT state, id FROM notices WHERE kind = :kind AND subject = :subject;

-- name: forget_old()!
-- Delete problems that were resolved a day ago: destinations are created and deleted.
DELETE FROM notices WHERE state = 'resolved' AND told_at < now() - interval '1 day';
