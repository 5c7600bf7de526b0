-- name: add(id, project, since, until, events, announce, started_at, total)<!
-- Insert a running backfill.
INSERT INTO backfills (id, project, state, since, until, events, announce, started_at, total)
VALUES (:id, :project, 'running', :since, :until, :events::text[], :announce, :started_at, :total)
RETURNING *;

-- name: now()$
-- The time by PostgreSQL's clock.
SELECT now();

-- name: unfinished(project, since, until, events, announce)^
-- The latest backfill of the same events, unless it finished. A backfill of an earlier version has no
-- project, and matches any.
SELECT * FROM (
    SELECT * FROM backfills
    WHERE since = :since AND events = :events::text[] AND announce = :announce
        AND (:until::timestamptz IS NULL OR until = :until)
        AND (project IS NULL OR project = :project)
    ORDER BY started_at DESC LIMIT 1
) AS latest WHERE state <> 'finished';

-- name: resume(id, project)^
-- Resume a backfill.
UPDATE backfills SET state = 'running', project = :project, ended_at = NULL, detail = NULL, remediation = NULL,
    not_before = now()
WHERE id = :id AND state <> 'finished' RETURNING *;

-- name: running()^
-- The running backfill.
SELECT * FROM backfills WHERE state = 'running';

-- name: due()^
-- The running backfill, unless it is paused.
SELECT * FROM backfills WHERE state = 'running' AND not_before <= now();

-- name: latest()
-- The latest backfills, newest first.
SELECT * FROM backfills ORDER BY started_at DESC LIMIT 20;

-- name: set_received_at(id, seconds)^
-- Set the time of receipt to now if the current one is older than `seconds`.
UPDATE backfills SET received_at = CASE
    WHEN coalesce(received_at, started_at) < now() - make_interval(secs => :seconds) THEN now()
    ELSE received_at END
WHERE id = :id AND state = 'running' RETURNING *;

-- name: advance(id, from_at, from_uuid, to_at, to_uuid, read, stored, known, rejected, left_out)!
-- Advance the position, unless the backfill has ended or another replica advanced it.
UPDATE backfills SET position_at = :to_at, position_uuid = :to_uuid, read = read + :read,
    stored = stored + :stored, known = known + :known, rejected = rejected + :rejected,
    left_out = COALESCE(:left_out, left_out), detail = NULL, remediation = NULL
WHERE id = :id AND state = 'running' AND position_at IS NOT DISTINCT FROM :from_at::timestamptz
    AND position_uuid IS NOT DISTINCT FROM :from_uuid::text;

-- name: wait(id, seconds, detail, remediation)!
-- Pause the running backfill, with a reason.
UPDATE backfills SET not_before = now() + make_interval(secs => :seconds), detail = :detail,
    remediation = :remediation
WHERE id = :id AND state = 'running';

-- name: end(id, state, detail, remediation)^
-- End a running backfill.
UPDATE backfills SET state = :state, ended_at = now(), detail = :detail, remediation = :remediation
WHERE id = :id AND state = 'running' RETURNING *;

-- name: get(id)^
-- One backfill.
SELECT * FROM backfills WHERE id = :id;
