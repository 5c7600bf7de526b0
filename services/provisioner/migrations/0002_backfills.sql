-- migrate:up
-- Backfills, and how far each is: everything up to the event of the position is safe in ingest.
CREATE TABLE provisioner.backfills (
    id            uuid        PRIMARY KEY,
    state         text        NOT NULL CHECK (state IN ('running', 'finished', 'cancelled', 'failed')),
    since         timestamptz NOT NULL,
    until         timestamptz NOT NULL,
    events        text[]      NOT NULL,
    announce      boolean     NOT NULL,
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    position_at   timestamptz,
    position_uuid text,
    total         bigint      NOT NULL,
    read          bigint      NOT NULL DEFAULT 0,
    stored        bigint      NOT NULL DEFAULT 0,
    known         bigint      NOT NULL DEFAULT 0,
    rejected      bigint      NOT NULL DEFAULT 0,
    not_before    timestamptz NOT NULL DEFAULT now(),
    detail        text,
    remediation   text
);
-- One at a time: PostHog limits the queries of an organization, not of a backfill.
CREATE UNIQUE INDEX backfills_running ON provisioner.backfills (state) WHERE state = 'running';
CREATE INDEX backfills_latest ON provisioner.backfills (started_at DESC);

-- migrate:down
-- Forward only.
