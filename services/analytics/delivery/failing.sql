-- name: record_failure(durable, attempts, response_status, error, next_seconds)!
-- Store a failed attempt; `since` stays the time of the first failure.
INSERT INTO failing (durable, attempts, response_status, error, tried_at, next_at)
VALUES (
    :durable, :attempts, :response_status, :error, now(),
    now() + make_interval(secs => :next_seconds::float8)
)
ON CONFLICT (durable) DO UPDATE SET
    attempts = excluded.attempts, response_status = excluded.response_status,
    error = excluded.error, tried_at = excluded.tried_at, next_at = excluded.next_at;

-- name: delete_failure(durable)!
-- Delete the failure of a consumer after an attempt succeeded.
DELETE FROM failing WHERE durable = :durable;

-- name: failing()
-- Every failing consumer, the longest failing first.
SELECT durable, since FROM failing ORDER BY since, durable;
