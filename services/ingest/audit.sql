-- name: save_audit(entries)!
-- Store entries of the audit trail, each once.
INSERT INTO audit (id, at, actor, action, resource, status, request_id, address)
SELECT id, at, actor, action, resource, status, request_id, address
FROM json_to_recordset(:entries::json) AS entry (id uuid, at timestamptz, actor text, action text,
    resource text, status integer, request_id text, address text)
ON CONFLICT (id) DO NOTHING;

-- name: audit(action, actor, before, before_at, before_id, limit, offset, most)
-- Entries that match, newest first, after a position if one is given. Long resources are cut off: an
-- earlier version stored them in full.
SELECT id, at, actor, action, left(resource, :most) AS resource, status, request_id, address
FROM audit
WHERE (:action::text IS NULL OR (left(action, 100) = left(:action, 100) AND action = :action))
    AND (:actor::text IS NULL OR (left(actor, 100) = left(:actor, 100) AND actor = :actor))
    AND (NOT :before::boolean OR (at <= :before_at
        AND (at, id) < (:before_at::timestamptz, :before_id::uuid)))
ORDER BY at DESC, id DESC LIMIT :limit OFFSET :offset;

-- name: total_audit(action, actor, most)$
-- How many entries match, counted up to a number. The order is that of the index, so that it is used.
SELECT count(*) FROM (
    SELECT FROM audit
    WHERE (:action::text IS NULL OR (left(action, 100) = left(:action, 100) AND action = :action))
        AND (:actor::text IS NULL OR (left(actor, 100) = left(:actor, 100) AND actor = :actor))
    ORDER BY at DESC LIMIT :most
) AS counted;

-- name: expected_total_audit(action, actor)$
-- PostgreSQL's plan, which contains how many entries it expects to match. The conditions on the indexed
-- prefixes are missing: PostgreSQL would take them for independent, and expect too few entries.
EXPLAIN (FORMAT JSON) SELECT FROM audit
WHERE (:action::text IS NULL OR action = :action)
    AND (:actor::text IS NULL OR actor = :actor);
