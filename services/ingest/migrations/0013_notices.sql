-- migrate:up
-- What the operator's webhook was told last of each problem: of several gateways one tells it.
CREATE TABLE ingest.notices (
    kind    text        NOT NULL,
    subject text        NOT NULL,
    state   text        NOT NULL CHECK (state IN ('raised', 'resolved')),
    id      uuid        NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, subject)
);

-- migrate:down
-- Forward only.
