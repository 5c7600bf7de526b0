-- migrate:up
-- Contacts are listed newest first, page by page. When one was made never changes, so that updates of
-- contacts write nothing here. Webhooks wait on the bus while the index is made.
CREATE INDEX contacts_newest ON ingest.contacts (created_at DESC, id DESC);

-- migrate:down
-- Forward only.
