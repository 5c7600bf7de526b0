-- name: readers()
-- Durables that were seen on ENGAGEMENT.
SELECT durable FROM engagement_readers ORDER BY durable;

-- name: remember(durables)!
-- Durables that were seen for the first time.
INSERT INTO engagement_readers (durable) SELECT unnest(:durables::text[]) ON CONFLICT DO NOTHING;

-- name: forget(durables)!
-- Durables that analytics wants no more.
DELETE FROM engagement_readers WHERE durable = ANY(:durables::text[]);
