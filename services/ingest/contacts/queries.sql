-- name: contact(ids)^
-- One contact, the first in order of the ids given.
SELECT id, external_id, email, properties, timezone
FROM contacts WHERE id = ANY(:ids::uuid[]) ORDER BY array_position(:ids::uuid[], id) LIMIT 1;

-- name: fill_timezone(id, timezone)!
-- Give a contact a time zone, unless it has one.
UPDATE contacts SET timezone = :timezone, updated_at = now()
WHERE id = :id AND timezone IS NULL;
