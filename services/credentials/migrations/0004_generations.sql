-- migrate:up
-- The version at which a grant was last connected or deleted. Refreshing leaves it as it is, so it
-- tells whether what somebody began with is still connected.
ALTER TABLE credentials.provider_versions ADD COLUMN generation bigint NOT NULL DEFAULT 0;

-- migrate:down
-- Forward only.
