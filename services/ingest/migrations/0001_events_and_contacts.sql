-- migrate:up
-- Texts come from outside and may be a MiB long; a btree entry may not. So identities are indexed
-- by digest, and filters by a prefix.
CREATE TABLE ingest.contacts (
    id            uuid        PRIMARY KEY,
    source        text        NOT NULL,
    external_id   text,
    email         text,
    email_version jsonb,
    properties    jsonb       NOT NULL,
    versions      jsonb       NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL
);

-- Every key a contact was ever known by. Kind `row` is the id of a contact that was merged away.
CREATE TABLE ingest.contact_keys (
    kind       text  NOT NULL CHECK (kind IN ('external', 'email', 'row')),
    digest     bytea NOT NULL,
    value      text  NOT NULL,
    contact_id uuid  NOT NULL REFERENCES ingest.contacts (id),
    PRIMARY KEY (kind, digest)
);
CREATE INDEX contact_keys_contact ON ingest.contact_keys (contact_id);

-- `contact_id` is the contact at the time; after a merge its `row` key leads to the survivor.
CREATE TABLE ingest.events (
    source         text        NOT NULL,
    id             text        NOT NULL,
    event          text        NOT NULL,
    user_id        text        NOT NULL,
    contact_id     uuid        NOT NULL,
    properties     jsonb       NOT NULL,
    occurred_at    timestamptz NOT NULL,
    received_at    timestamptz NOT NULL,
    correlation_id text,
    PRIMARY KEY (source, id)
);
CREATE INDEX events_newest ON ingest.events (received_at DESC);
CREATE INDEX events_by_event ON ingest.events (left(event, 100), received_at DESC);
CREATE INDEX events_by_user ON ingest.events (left(user_id, 100), received_at DESC);
CREATE INDEX events_by_source ON ingest.events (source, received_at DESC);

-- migrate:down
-- Forward only.
