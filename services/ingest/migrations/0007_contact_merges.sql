-- migrate:up
-- What two contacts were before they became one, from which an operator can tell them apart again
-- (correction C5). `survivor_before` is NULL when the survivor came into being with the merge.
CREATE TABLE ingest.contact_merges (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT now(),
    loser           uuid        NOT NULL,
    survivor        uuid        NOT NULL,
    loser_before    jsonb       NOT NULL,
    survivor_before jsonb,
    loser_keys      jsonb       NOT NULL
);
CREATE INDEX contact_merges_survivor ON ingest.contact_merges (survivor);

-- migrate:down
-- Forward only.
