-- migrate:up
-- Authorizations that were begun in a browser and wait for PostHog's answer: ten minutes at most, and
-- each is taken once. What is sealed is the PKCE verifier, where the code is exchanged, and a digest
-- of the browser's cookie. Of the state only a digest is here.
CREATE TABLE credentials.provider_authorizations (
    state_sha256 text        PRIMARY KEY,
    provider_id  text        NOT NULL,
    payload      text        NOT NULL,
    expires_at   timestamptz NOT NULL
);

-- migrate:down
-- Forward only.
