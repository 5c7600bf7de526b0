-- migrate:up
-- Lists are by when events happened. Webhooks wait on the bus while the indexes are made. The version
-- before this one lists by receipt, without the help of an index, for as long as it runs beside.
CREATE INDEX events_latest ON ingest.events (occurred_at DESC);
CREATE INDEX events_latest_by_event ON ingest.events (left(event, 100), occurred_at DESC);
CREATE INDEX events_latest_by_user ON ingest.events (left(user_id, 100), occurred_at DESC);
CREATE INDEX events_latest_by_source ON ingest.events (source, occurred_at DESC);
DROP INDEX ingest.events_newest;
DROP INDEX ingest.events_by_event;
DROP INDEX ingest.events_by_user;
DROP INDEX ingest.events_by_source;

-- migrate:down
-- Forward only.
