-- migrate:up
-- How refreshing a stored grant goes. A row is about one stored grant only: as soon as that grant is
-- replaced, by a refresh that worked or by connecting again, `grant_updated_at` no longer matches
-- and the row says nothing.
CREATE TABLE credentials.provider_refreshes (
    provider_id      text        PRIMARY KEY,
    grant_updated_at timestamptz NOT NULL,
    -- Set before the token endpoint is asked; still set afterwards means that a crash cut it off.
    started_at       timestamptz,
    failed_at        timestamptz,
    failures         integer     NOT NULL DEFAULT 0,
    reason           text,
    needs_reconnect  boolean     NOT NULL DEFAULT false
);

-- migrate:down
-- Forward only.
