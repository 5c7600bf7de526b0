-- name: all_destinations()
-- All destinations, oldest first.
SELECT * FROM destinations ORDER BY created_at, id;

-- name: page(include_disabled, limit, offset)
-- A page of destinations, newest first.
SELECT * FROM destinations WHERE :include_disabled OR NOT disabled
ORDER BY created_at DESC, id LIMIT :limit OFFSET :offset;

-- name: total(include_disabled)$
-- How many destinations there are on all pages.
SELECT count(*) FROM destinations WHERE :include_disabled OR NOT disabled;

-- name: get(id)^
-- One destination.
SELECT * FROM destinations WHERE id = :id;

-- name: lock(id)^
-- One destination, locked until the transaction ends.
SELECT * FROM destinations WHERE id = :id FOR UPDATE;

-- name: insert(id, url, kind, description, event_types, config, disabled, seeded)^
-- Insert a destination.
INSERT INTO destinations (id, url, kind, description, event_types, config, disabled, seeded)
VALUES (:id, :url, :kind, :description, :event_types, :config, :disabled, :seeded)
RETURNING *;

-- name: update(id, url, description, event_types, config, disabled)^
-- Replace the columns of a destination that can change.
UPDATE destinations SET url = :url, description = :description, event_types = :event_types,
    config = :config, disabled = :disabled, updated_at = now()
WHERE id = :id
RETURNING *;

-- name: delete(id)$
-- Delete a destination and its history.
DELETE FROM destinations WHERE id = :id RETURNING id;

-- name: lock_creation()!
-- Let one replica at a time create destinations. 7238 is the key of this lock only.
SELECT pg_advisory_xact_lock(7238);

-- name: of_kind(kind)
-- Destinations of a kind, locked until the transaction ends.
SELECT * FROM destinations WHERE kind = :kind ORDER BY created_at, id FOR UPDATE;

-- name: save_deliveries(id, deliveries)!
-- Insert or update outcomes of events; no effect when the destination was deleted.
INSERT INTO deliveries
    (destination_id, event_id, event_type, status, attempts, response_status, error)
SELECT destination.id, event_id, event_type, status, attempts, response_status, error
FROM destinations AS destination,
    json_to_recordset(:deliveries::json) AS delivery (event_id text, event_type text, status text,
        attempts integer, response_status integer, error text)
WHERE destination.id = :id
ON CONFLICT (destination_id, event_id) DO UPDATE SET
    status = excluded.status, attempts = excluded.attempts,
    response_status = excluded.response_status, error = excluded.error, finished_at = now();

-- name: touch(id)!
-- Set the time of the last delivery.
UPDATE destinations SET last_delivery_at = now() WHERE id = :id;

-- name: trim_history(id, kept)!
-- Delete all but the newest `kept` rows of history.
DELETE FROM deliveries WHERE destination_id = :id AND position <= (
    SELECT position FROM deliveries WHERE destination_id = :id
    ORDER BY position DESC OFFSET :kept LIMIT 1
);

-- name: deliveries(id, status, limit, offset)
-- A page of a destination's history, newest first.
SELECT * FROM deliveries
WHERE destination_id = :id AND (:status::text IS NULL OR status = :status)
ORDER BY position DESC LIMIT :limit OFFSET :offset;

-- name: retrying(id, durable)^
-- The latest failed attempt of a destination, unless it was paused or changed since then.
SELECT since, attempts, response_status, error, tried_at, next_at AS next_attempt_at FROM failing
WHERE durable = :durable AND EXISTS (
    SELECT FROM destinations WHERE id = :id AND NOT disabled AND updated_at <= tried_at
);

-- name: total_deliveries(id, status)$
-- Number of rows of history on all pages.
SELECT count(*) FROM deliveries
WHERE destination_id = :id AND (:status::text IS NULL OR status = :status);

-- name: event_deliveries(event_ids)
-- Deliveries of one event. The join uses the index on (destination_id, event_id).
SELECT delivery.*, destination.description
FROM destinations AS destination
JOIN deliveries AS delivery ON delivery.destination_id = destination.id
    AND delivery.event_id = ANY(:event_ids::text[])
ORDER BY delivery.finished_at, delivery.position;
