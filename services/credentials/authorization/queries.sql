-- name: remember(state_sha256, provider, payload, expires_at)!
-- Store an authorization that was begun.
INSERT INTO provider_authorizations (state_sha256, provider_id, payload, expires_at)
VALUES (:state_sha256, :provider, :payload, :expires_at);

-- name: forget_expired(now)!
-- Remove those that have expired.
DELETE FROM provider_authorizations WHERE expires_at <= :now;

-- name: take(state_sha256, provider)^
-- Remove an authorization and return it: of two that ask at once, one gets it.
DELETE FROM provider_authorizations
WHERE state_sha256 = :state_sha256 AND provider_id = :provider
RETURNING payload, expires_at;
