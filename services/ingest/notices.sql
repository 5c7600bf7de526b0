-- name: raised()
-- Problems the operator knows of.
SELECT kind, subject FROM notices WHERE state = 'raised' ORDER BY kind, subject;

-- name: raise_notice(kind, subject, id, pause)$
-- Say that a problem is there, unless that is said, or the opposite was a moment ago.
INSERT INTO notices AS told (kind, subject, state, id) VALUES (:kind, :subject, 'raised', :id)
ON CONFLICT (kind, subject) DO UPDATE SET state = 'raised', id = excluded.id, told_at = now()
WHERE told.state = 'resolved' AND told.told_at <= now() - :pause::interval
RETURNING true;

-- name: resolve_notice(kind, subject, id)$
-- Say that a problem is over, if it was there.
UPDATE notices SET state = 'resolved', id = :id, told_at = now()
WHERE kind = :kind AND subject = :subject AND state = 'raised'
RETURNING true;

-- name: told(kind, subject)^
-- What was said last.
SELECT state, id FROM notices WHERE kind = :kind AND subject = :subject;

-- name: forget_old()!
-- Forget problems that were over long ago: destinations come and go.
DELETE FROM notices WHERE state = 'resolved' AND told_at < now() - interval '1 day';
