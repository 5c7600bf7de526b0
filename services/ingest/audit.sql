-- name: save_audit(entries)!
-- Keep entries of the audit trail, each once.
INSERT INTO audit (id, at, actor, action, resource, status, request_id, address)
SELECT id, at, actor, action, resource, status, request_id, address
FROM json_to_recordset(:entries::json) AS entry (id uuid, at timestamptz, actor text, action text,
    resource text, status integer, request_id text, address text)
ON CONFLICT (id) DO NOTHING;

-- name: audit(action, actor, limit, offset)
-- Entries that match, newest first.
SELECT id, at, actor, action, resource, status, request_id, address FROM audit
WHERE (:action::text IS NULL OR action = :action) AND (:actor::text IS NULL OR actor = :actor)
ORDER BY at DESC, id LIMIT :limit OFFSET :offset;

-- name: total_audit(action, actor)$
-- How many entries match.
SELECT count(*) FROM audit
WHERE (:action::text IS NULL OR action = :action) AND (:actor::text IS NULL OR actor = :actor);
