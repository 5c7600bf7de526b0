-- name: save(provider, kind, payload)^
-- Store a sealed payload, replacing the one of that kind; the row keeps its id and creation time.
INSERT INTO provider_credentials AS stored (provider_id, kind, payload)
VALUES (:provider, :kind, :payload)
ON CONFLICT (provider_id, kind) DO UPDATE
SET payload = excluded.payload, updated_at = greatest(now(), stored.updated_at)
RETURNING kind, payload, created_at, updated_at;

-- name: load(provider)
-- Every sealed row of a provider.
SELECT kind, payload, created_at, updated_at FROM provider_credentials
WHERE provider_id = :provider ORDER BY kind DESC;

-- name: delete(provider)
-- Remove every row of a provider and say which kinds there were.
DELETE FROM provider_credentials WHERE provider_id = :provider RETURNING kind;

-- name: bump(provider, change, kinds)!
-- Give the provider its next version; the clock keeps it ahead of versions a restored backup forgot.
INSERT INTO provider_versions AS current (provider_id, version, change, changed_kinds)
VALUES (:provider, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, :change, :kinds)
ON CONFLICT (provider_id) DO UPDATE SET
    version = greatest(current.version + 1, excluded.version),
    change = excluded.change, changed_kinds = excluded.changed_kinds, changed_at = now();

-- name: version(provider)$
-- The provider's current version.
SELECT version FROM provider_versions WHERE provider_id = :provider;

-- name: unannounced()
-- Providers whose last change nobody has been told about.
SELECT provider_id FROM provider_versions WHERE announced < version;

-- name: lock_unannounced(provider)^
-- The change still to announce, locked so that replicas announce in version order.
SELECT version, change, changed_kinds, changed_at FROM provider_versions
WHERE provider_id = :provider AND announced < version FOR UPDATE;

-- name: mark_announced(provider, version)!
-- Remember what has been announced.
UPDATE provider_versions SET announced = :version WHERE provider_id = :provider;
