-- migrate:up
-- How far each durable consumer was read: one that is deleted while no replica runs goes on from
-- here. `stream_made_at` tells the streams apart that had one name after each other.
CREATE TABLE analytics.positions (
    stream         text        NOT NULL,
    durable        text        NOT NULL,
    stream_made_at timestamptz NOT NULL,
    acknowledged   bigint      NOT NULL,
    saved_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, durable)
);

-- migrate:down
-- Forward only.
