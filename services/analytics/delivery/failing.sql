-- name: failed(durable, attempts, response_status, error, next_seconds)!
-- Note a failed attempt; since when they fail stays.
INSERT INTO failing (durable, attempts, response_status, error, tried_at, next_at)
VALUES (
    :durable, :attempts, :response_status, :error, now(),
    now() + make_interval(secs => :next_seconds::float8)
)
ON CONFLICT (durable) DO UPDATE SET
    attempts = excluded.attempts, response_status = excluded.response_status,
    error = excluded.error, tried_at = excluded.tried_at, next_at = excluded.next_at;

-- name: worked(durable)!
-- Note a success.
DELETE FROM failing WHERE durable = :durable;

-- name: failing()
-- Everything that fails, longest first.
SELECT durable, since FROM failing ORDER BY since, durable;
