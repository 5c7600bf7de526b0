-- name: position(stream, durable)^
-- How far a durable was read.
SELECT stream_made_at, acknowledged FROM positions WHERE stream = :stream AND durable = :durable;

-- name: durables(stream)
-- Durables of a stream whose position is kept.
SELECT durable FROM positions WHERE stream = :stream ORDER BY durable;

-- name: save(positions)!
-- Keep how far durables were read, be it less than before: a stream may have been restored.
INSERT INTO positions (stream, durable, stream_made_at, acknowledged)
SELECT stream, durable, stream_made_at, acknowledged
FROM json_to_recordset(:positions::json) AS position
    (stream text, durable text, stream_made_at timestamptz, acknowledged bigint)
ON CONFLICT (stream, durable) DO UPDATE SET stream_made_at = excluded.stream_made_at,
    acknowledged = excluded.acknowledged, saved_at = now();

-- name: forget(stream, durable)!
-- The durable is not wanted any more.
DELETE FROM positions WHERE stream = :stream AND durable = :durable;
