-- migrate:up
-- Durable consumers whose events PostHog does not take, each since its first failed attempt.
CREATE TABLE analytics.failing (
    durable text        PRIMARY KEY,
    since   timestamptz NOT NULL DEFAULT now()
);

-- migrate:down
-- Forward only.
