-- migrate:up
-- The trail is listed by action and by actor; without these a rare one is looked for in all of it.
CREATE INDEX audit_newest_by_action ON ingest.audit (left(action, 100), at DESC);
CREATE INDEX audit_newest_by_actor ON ingest.audit (left(actor, 100), at DESC);

-- migrate:down
-- Forward only.
