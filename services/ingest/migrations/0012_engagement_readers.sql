-- migrate:up
-- Durables that were seen on ENGAGEMENT beside ingest's own. While one of them is missing and
-- analytics has not said that it is not wanted any more, no report is deleted.
CREATE TABLE ingest.engagement_readers (
    durable text        PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- migrate:down
-- Forward only.
