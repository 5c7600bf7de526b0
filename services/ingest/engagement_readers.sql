-- name: readers()
-- All durables of ENGAGEMENT that were ever seen and are still used.
SELECT durable FROM engagement_readers ORDER BY durable;

-- name: remember(durables)!
-- Add durables that were seen for the first time.
INSERT INTO engagement_readers (durable) SELECT unnest(:durables::text[]) ON CONFLICT DO NOTHING;

-- name: forget(durables)!
-- Remove durables that analytics no longer uses.
DELETE FROM engagement_readers WHERE durable = ANY(:durables::text[]);
