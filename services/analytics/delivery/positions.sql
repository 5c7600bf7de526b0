-- name: position(stream, durable)^
-- The saved position of a durable.
SELECT stream_made_at, acknowledged FROM positions WHERE stream = :stream AND durable = :durable;

-- name: durables(stream)
-- Durables of a stream that have a saved position.
SELECT durable FROM positions WHERE stream = :stream ORDER BY durable;

-- name: save(positions)!
-- Save positions. A lower one replaces a higher one, too: a stream may have been restored.
INSERT INTO positions (stream, durable, stream_made_at, acknowledged)
SELECT stream, durable, stream_made_at, acknowledged
FROM json_to_recordset(:positions::json) AS position
    (stream text, durable text, stream_made_at timestamptz, acknowledged bigint)
ON CONFLICT (stream, durable) DO UPDATE SET stream_made_at = excluded.stream_made_at,
    acknowledged = excluded.acknowledged, saved_at = now();

-- name: delete(stream, durable)!
-- Delete the position of a durable whose consumer is deleted.
DELETE FROM positions WHERE stream = :stream AND durable = :durable;
