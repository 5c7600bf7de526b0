-- migrate:up
-- Many events of one moment, as an import brings them, are listed by receipt within it: without the
-- second column all of them are read and sorted for one page. Webhooks wait on the bus while the
-- indexes are made. The version before this one uses them as it used those that go.
CREATE INDEX events_listed ON ingest.events (occurred_at DESC, received_at DESC);
CREATE INDEX events_listed_by_event
    ON ingest.events (left(event, 100), occurred_at DESC, received_at DESC);
CREATE INDEX events_listed_by_user
    ON ingest.events (left(user_id, 100), occurred_at DESC, received_at DESC);
CREATE INDEX events_listed_by_source ON ingest.events (source, occurred_at DESC, received_at DESC);
DROP INDEX ingest.events_latest;
DROP INDEX ingest.events_latest_by_event;
DROP INDEX ingest.events_latest_by_user;
DROP INDEX ingest.events_latest_by_source;

-- migrate:down
-- Forward only.
