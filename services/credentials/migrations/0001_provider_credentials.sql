-- migrate:up
-- Rows keep the shape and sealing Hogsend itself reads (contract 1.5).
CREATE TABLE credentials.provider_credentials (
    id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    provider_id text        NOT NULL,
    kind        text        NOT NULL DEFAULT 'oauth',
    payload     text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider_id, kind)
);

-- Outlives its provider's rows, so that a version never comes back after a deletion.
CREATE TABLE credentials.provider_versions (
    provider_id   text        PRIMARY KEY,
    version       bigint      NOT NULL,
    announced     bigint      NOT NULL DEFAULT 0,
    change        text        NOT NULL,
    changed_kinds text[]      NOT NULL,
    changed_at    timestamptz NOT NULL DEFAULT now()
);

-- migrate:down
-- Forward only.
