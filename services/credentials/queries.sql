-- name: save(provider, kind, payload)
-- Store a sealed payload in place of the one of that kind, and bump the provider's version as `bump`
-- does. The row keeps its id and creation time. Returns every row of the provider.
-- The other rows are those of the statement's snapshot. They are current if no other change was
-- committed after the snapshot was taken; `is_sole_change` is true then, as each change bumps the
-- version. `version_before` and `generation` are the values before this change. The generation of a
-- stored grant is its version.
WITH saved AS (
    INSERT INTO provider_credentials AS stored (provider_id, kind, payload)
    VALUES (:provider, :kind, :payload)
    ON CONFLICT (provider_id, kind) DO UPDATE
    SET payload = excluded.payload,
        updated_at = greatest(now(), stored.updated_at + interval '1 microsecond')
    RETURNING provider_id, kind, payload, created_at, updated_at
), seen AS (
    SELECT version FROM provider_versions WHERE provider_id = :provider
), locked AS (
    -- Waits for a concurrent change, and returns the version that it committed.
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
       seen.version IS NOT NULL AND seen.version IS NOT DISTINCT FROM locked.version
           AS is_sole_change
FROM rows, bumped LEFT JOIN seen ON true LEFT JOIN locked ON true;

-- name: lock_rows(provider)!
-- Lock a provider's rows in the same order as `delete`, to avoid a deadlock with it.
SELECT FROM provider_credentials WHERE provider_id = :provider FOR UPDATE;

-- name: replace_derived(provider, payload)!
-- Replace the derived payload, if there is one.
UPDATE provider_credentials
SET payload = :payload, updated_at = greatest(now(), updated_at + interval '1 microsecond')
WHERE provider_id = :provider AND kind = 'derived';

-- name: set_changed_kinds(provider, kinds)!
-- Set the kinds that the last change names; used in the transaction that made the change.
UPDATE provider_versions SET changed_kinds = :kinds WHERE provider_id = :provider;

-- name: load(provider)
-- The provider's version with each sealed row and the state of refreshing the grant.
-- One statement reads one snapshot. A refresh state belongs to one grant, and is ignored when another
-- grant is stored.
SELECT version, generation, change, kind, payload, created_at, updated_at,
       started_at, failed_at, failures, reason, needs_reconnect
FROM (SELECT CAST(:provider AS text) AS provider_id) AS requested
LEFT JOIN provider_versions USING (provider_id)
LEFT JOIN provider_credentials USING (provider_id)
LEFT JOIN provider_refreshes AS refresh
    ON refresh.provider_id = requested.provider_id AND kind = 'oauth' AND grant_updated_at = updated_at;

-- name: delete(provider)
-- Delete every row of a provider, and return their kinds.
DELETE FROM provider_credentials WHERE provider_id = :provider RETURNING kind;

-- name: bump(provider, change, kinds)!
-- Bump the provider's version, and start a new generation. The version is taken from the clock, so
-- that after a restore of an older backup it is still ahead of all versions that were published.
INSERT INTO provider_versions AS current (provider_id, version, change, changed_kinds, generation)
SELECT provider_id, version, :change, :kinds, version
FROM (SELECT CAST(:provider AS text), (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    AS next (provider_id, version)
ON CONFLICT (provider_id) DO UPDATE SET
    version = greatest(current.version + 1, excluded.version),
    change = excluded.change, changed_kinds = excluded.changed_kinds, changed_at = now(),
    generation = greatest(current.version + 1, excluded.version);

-- name: replace_grant(provider, replaced, payload)$
-- Store a refreshed grant and return its version, unless the previous grant was replaced or deleted
-- meanwhile. A single statement, to keep the time short in which a crash loses the rotated token.
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
-- Record that a refresh request is about to be sent; failures of the same grant are kept.
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

-- name: fail_refresh(provider, replaced, failed_at, reason, needs_reconnect, response_lost)$
-- Record a failure, and return the number of consecutive failures; no row when the grant was replaced
-- meanwhile. The start is kept when the response was lost.
UPDATE provider_refreshes
SET started_at = CASE WHEN :response_lost THEN started_at END, failed_at = :failed_at,
    failures = failures + 1, reason = :reason, needs_reconnect = :needs_reconnect
WHERE provider_id = :provider AND grant_updated_at = :replaced
RETURNING failures;

-- name: granted_providers()
-- Providers that have an OAuth grant.
SELECT provider_id FROM provider_credentials WHERE kind = 'oauth' ORDER BY provider_id;

-- name: all_rows()
-- Every sealed row.
SELECT provider_id, kind, payload, created_at, updated_at FROM provider_credentials;

-- name: reseal(provider, kind, old, new)!
-- Replace a sealed payload by the same payload sealed again. The version does not change.
UPDATE provider_credentials SET payload = :new
WHERE provider_id = :provider AND kind = :kind AND payload = :old;

-- name: pending_changes()
-- Providers whose last change is not published yet.
SELECT provider_id FROM provider_versions WHERE announced < version;

-- name: lock_pending_change(provider)^
-- The change to publish, locked so that replicas publish in version order.
SELECT version, change, changed_kinds, changed_at FROM provider_versions
WHERE provider_id = :provider AND announced < version FOR UPDATE;

-- name: mark_published(provider, version)!
-- Record a published version, unless a later version was published meanwhile.
UPDATE provider_versions SET announced = greatest(announced, :version) WHERE provider_id = :provider;

-- name: published_versions()
-- The last published version of each provider.
SELECT provider_id, announced FROM provider_versions WHERE announced > 0;

-- name: mark_all_pending()!
-- Mark the last change of every provider as not published.
UPDATE provider_versions SET announced = 0 WHERE announced > 0;
