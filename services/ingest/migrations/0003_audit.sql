-- migrate:up
-- Who changed what, when, and how it ended; never what was sent.
CREATE TABLE ingest.audit (
    id         uuid        PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL,
    action     text        NOT NULL,
    resource   text        NOT NULL,
    status     integer     NOT NULL,
    request_id text        NOT NULL,
    address    text        NOT NULL
);
CREATE INDEX audit_newest ON ingest.audit (at DESC);

-- migrate:down
-- Forward only.
