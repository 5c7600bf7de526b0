-- migrate:up
-- An event is known by its source, the source's id, its name and its user id: ids of one source need
-- not be unique by themselves. Names and user ids may be too long for an index, so it has hashes.
-- Webhooks wait on the bus while it is made. The version before this one looks for source and id,
-- which the index begins with.
CREATE UNIQUE INDEX events_key ON ingest.events
    (source, id, hashtextextended(event, 0), hashtextextended(user_id, 0));
ALTER TABLE ingest.events DROP CONSTRAINT events_pkey;

-- migrate:down
-- Forward only.
