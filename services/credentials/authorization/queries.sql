-- name: add(state_sha256, provider, payload, expires_at)!
-- Store an authorization.
INSERT INTO provider_authorizations (state_sha256, provider_id, payload, expires_at)
VALUES (:state_sha256, :provider, :payload, :expires_at);

-- name: delete_expired(now)!
-- Delete expired authorizations.
DELETE FROM provider_authorizations WHERE expires_at <= :now;

-- name: take(state_sha256, provider)^
-- Delete an authorization and return it. Of two concurrent calls, only one gets it.
DELETE FROM provider_authorizations
WHERE state_sha256 = :state_sha256 AND provider_id = :provider
RETURNING payload, expires_at;
