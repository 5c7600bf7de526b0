-- migrate:up
-- Outbound destinations, and what became of events there.
CREATE TABLE analytics.destinations (
    id               uuid        PRIMARY KEY,
    url              text        NOT NULL,
    kind             text        NOT NULL CHECK (kind IN ('posthog')),
    description      text,
    event_types      text[]      NOT NULL,
    -- Without a key of its own a destination captures with the instance's project key.
    config           jsonb       NOT NULL,
    disabled         boolean     NOT NULL DEFAULT false,
    seeded           boolean     NOT NULL DEFAULT false,
    last_delivery_at timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX destinations_one_seed ON analytics.destinations (seeded) WHERE seeded;

-- A history for people to look at, cut to its newest rows; nothing is decided by it.
CREATE TABLE analytics.deliveries (
    position        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination_id  uuid        NOT NULL REFERENCES analytics.destinations (id) ON DELETE CASCADE,
    event_id        text        NOT NULL,
    event_type      text        NOT NULL,
    status          text        NOT NULL
        CHECK (status IN ('delivered', 'skipped', 'failed', 'discarded')),
    attempts        integer     NOT NULL,
    response_status integer,
    error           text,
    finished_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (destination_id, event_id)
);
CREATE INDEX deliveries_newest ON analytics.deliveries (destination_id, position DESC);

-- migrate:down
-- Forward only.
