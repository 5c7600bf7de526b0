-- name: save(provider, kind, payload)
-- Store a sealed payload, replacing the one of that kind, and give the provider its next version, as
-- `bump` does; the row keeps its id and creation time. Returns every row of the provider.
-- The other rows are as the statement found them when it began. They are still the last word if no
-- version came in between, which is what `is_alone` says: every change makes a version.
-- `version_before` and `generation` are those that it met; a grant that is stored has its version as
-- its generation.
WITH saved AS (
    INSERT INTO provider_credentials AS stored (provider_id, kind, payload)
    VALUES (:provider, :kind, :payload)
    ON CONFLICT (provider_id, kind) DO UPDATE
    SET payload = excluded.payload,
        updated_at = greatest(now(), stored.updated_at + interval '1 microsecond')
    RETURNING provider_id, kind, payload, created_at, updated_at
), found AS (
    SELECT version FROM provider_versions WHERE provider_id = :provider
), locked AS (
    -- Waits for a change that is being made, and gives the version that it made.
    SELECT current.version, current.generation
    FROM provider_versions AS current JOIN saved USING (provider_id)
    FOR UPDATE OF current
), next AS (
    SELECT provider_id, kind,
           greatest(locked.version + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS version
    FROM saved LEFT JOIN locked ON true
), bumped AS (
    INSERT INTO provider_versions AS current (provider_id, version, change, changed_kinds, generation)
    SELECT provider_id, version, 'stored', ARRAY[kind], CASE kind WHEN 'oauth' THEN version ELSE 0 END
    FROM next
    ON CONFLICT (provider_id) DO UPDATE SET
        version = greatest(current.version + 1, excluded.version),
        change = excluded.change, changed_kinds = excluded.changed_kinds, changed_at = now(),
        generation = CASE excluded.generation WHEN 0 THEN current.generation
                     ELSE greatest(current.version + 1, excluded.version) END
    RETURNING version, changed_at
), rows AS (
    SELECT kind, payload, created_at, updated_at FROM saved
    UNION ALL
    SELECT kind, payload, created_at, updated_at FROM provider_credentials
    WHERE provider_id = :provider AND kind <> :kind
)
SELECT rows.*, bumped.version, bumped.changed_at,
       coalesce(locked.version, 0) AS version_before, coalesce(locked.generation, 0) AS generation,
       found.version IS NOT NULL AND found.version IS NOT DISTINCT FROM locked.version AS is_alone
FROM rows, bumped LEFT JOIN found ON true LEFT JOIN locked ON true;

-- name: lock_rows(provider)!
-- Lock a provider's rows in the order in which `delete` does, so that neither waits for the other.
SELECT FROM provider_credentials WHERE provider_id = :provider FOR UPDATE;

-- name: replace_derived(provider, payload)!
-- Replace the derived payload, if there is one.
UPDATE provider_credentials
SET payload = :payload, updated_at = greatest(now(), updated_at + interval '1 microsecond')
WHERE provider_id = :provider AND kind = 'derived';

-- name: name_changed_kinds(provider, kinds)!
-- Have the last change name these kinds, too, in the transaction that made it.
UPDATE provider_versions SET changed_kinds = :kinds WHERE provider_id = :provider;

-- name: load(provider)
-- The provider's version with each sealed row and the state of refreshing the grant.
-- One statement reads one snapshot. A refresh state belongs to one grant and is ignored for others.
SELECT version, generation, change, kind, payload, created_at, updated_at,
       started_at, failed_at, failures, reason, needs_reconnect
FROM (SELECT CAST(:provider AS text) AS provider_id) AS asked
LEFT JOIN provider_versions USING (provider_id)
LEFT JOIN provider_credentials USING (provider_id)
LEFT JOIN provider_refreshes AS refresh
    ON refresh.provider_id = asked.provider_id AND kind = 'oauth' AND grant_updated_at = updated_at;

-- name: delete(provider)
-- Remove every row of a provider; returns their kinds.
DELETE FROM provider_credentials WHERE provider_id = :provider RETURNING kind;

-- name: bump(provider, change, kinds)!
-- Give the provider its next version. Taken from the clock, it is ahead of the versions that a
-- restored backup does not know. It is a new generation, too.
INSERT INTO provider_versions AS current (provider_id, version, change, changed_kinds, generation)
SELECT provider_id, version, :change, :kinds, version
FROM (SELECT CAST(:provider AS text), (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    AS next (provider_id, version)
ON CONFLICT (provider_id) DO UPDATE SET
    version = greatest(current.version + 1, excluded.version),
    change = excluded.change, changed_kinds = excluded.changed_kinds, changed_at = now(),
    generation = greatest(current.version + 1, excluded.version);

-- name: replace_grant(provider, replaced, payload)$
-- Store a refreshed grant and return its version, unless the grant it came from was replaced or
-- deleted meanwhile. One statement: a crash before its end costs the rotated token.
WITH refreshed AS (
    UPDATE provider_credentials
    SET payload = :payload, updated_at = greatest(now(), updated_at + interval '1 microsecond')
    WHERE provider_id = :provider AND kind = 'oauth' AND updated_at = :replaced
    RETURNING provider_id
)
INSERT INTO provider_versions AS current (provider_id, version, change, changed_kinds)
SELECT provider_id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 'refreshed', '{oauth}'
FROM refreshed
ON CONFLICT (provider_id) DO UPDATE SET
    version = greatest(current.version + 1, excluded.version),
    change = excluded.change, changed_kinds = excluded.changed_kinds, changed_at = now()
RETURNING version;

-- name: start_refresh(provider, replaced, started_at)!
-- Record that the token endpoint is about to be asked; failures of the same grant are kept.
INSERT INTO provider_refreshes AS refresh (provider_id, grant_updated_at, started_at)
VALUES (:provider, :replaced, :started_at)
ON CONFLICT (provider_id) DO UPDATE SET
    started_at = excluded.started_at,
    grant_updated_at = excluded.grant_updated_at,
    failed_at = CASE WHEN refresh.grant_updated_at = excluded.grant_updated_at
                THEN refresh.failed_at END,
    failures = CASE WHEN refresh.grant_updated_at = excluded.grant_updated_at
               THEN refresh.failures ELSE 0 END,
    reason = CASE WHEN refresh.grant_updated_at = excluded.grant_updated_at
             THEN refresh.reason END,
    needs_reconnect = refresh.grant_updated_at = excluded.grant_updated_at
                      AND refresh.needs_reconnect;

-- name: fail_refresh(provider, replaced, failed_at, reason, needs_reconnect, lost)$
-- Record a failure; returns the number in a row, nothing when the grant was replaced meanwhile.
-- The start is kept when the answer was lost.
UPDATE provider_refreshes
SET started_at = CASE WHEN :lost THEN started_at END, failed_at = :failed_at, failures = failures + 1, reason = :reason,
    needs_reconnect = :needs_reconnect
WHERE provider_id = :provider AND grant_updated_at = :replaced
RETURNING failures;

-- name: granted_providers()
-- Providers that have an OAuth grant.
SELECT provider_id FROM provider_credentials WHERE kind = 'oauth' ORDER BY provider_id;

-- name: all_rows()
-- Every sealed row.
SELECT provider_id, kind, payload, created_at, updated_at FROM provider_credentials;

-- name: reseal(provider, kind, old, new)!
-- Replace a payload by the same one under another seal. It is no change of the credential.
UPDATE provider_credentials SET payload = :new
WHERE provider_id = :provider AND kind = :kind AND payload = :old;

-- name: pending_changes()
-- Providers whose last change is not published.
SELECT provider_id FROM provider_versions WHERE announced < version;

-- name: lock_pending_change(provider)^
-- The change to publish, locked so that replicas publish in version order.
SELECT version, change, changed_kinds, changed_at FROM provider_versions
WHERE provider_id = :provider AND announced < version FOR UPDATE;

-- name: mark_published(provider, version)!
-- Record what has been published; a later version may have been, meanwhile.
UPDATE provider_versions SET announced = greatest(announced, :version) WHERE provider_id = :provider;

-- name: published_versions()
-- The last version of each provider that has been published.
SELECT provider_id, announced FROM provider_versions WHERE announced > 0;

-- name: mark_all_pending()!
-- Publish every provider's last change once more.
UPDATE provider_versions SET announced = 0 WHERE announced > 0;
