-- migrate:up
-- The end of one person's data. A job is recorded first and finished by any replica; `person` is what
-- it still looks for, and is forgotten with the last step. What stays shows that it was done.
CREATE TABLE ingest.erasures (
    id            uuid        PRIMARY KEY,
    contact_id    uuid        NOT NULL UNIQUE,
    contact_ids   uuid[]      NOT NULL,
    person        jsonb,
    requested_at  timestamptz NOT NULL,
    announced_at  timestamptz,
    swept_at      timestamptz,
    finished_at   timestamptz,
    due_at        timestamptz NOT NULL,
    events        bigint      NOT NULL DEFAULT 0,
    messages      bigint      NOT NULL DEFAULT 0
);
CREATE INDEX erasures_due ON ingest.erasures (due_at) WHERE finished_at IS NULL;

-- Digests of what an erased person was known by: what happened before does not come back.
CREATE TABLE ingest.erased_keys (
    kind      text        NOT NULL,
    digest    bytea       NOT NULL,
    erased_at timestamptz NOT NULL,
    PRIMARY KEY (kind, digest)
);

-- migrate:down
-- Forward only.
