-- name: failed(durable)!
-- Note a failure, unless one is noted.
INSERT INTO failing (durable) VALUES (:durable) ON CONFLICT (durable) DO NOTHING;

-- name: worked(durable)!
-- Note a success.
DELETE FROM failing WHERE durable = :durable;

-- name: failing()
-- Everything that fails, longest first.
SELECT durable, since FROM failing ORDER BY since, durable;
