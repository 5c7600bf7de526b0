-- name: partitions()
-- Where events lie, by the time of their receipt. The first has no beginning; the table from before there
-- were partitions has no end either, until it is bounded.
SELECT child.oid AS relation, child.relname AS name,
    substring(bound FROM 'FROM \(''([^'']+)')::timestamptz AS begins,
    substring(bound FROM 'TO \(''([^'']+)')::timestamptz AS ends,
    greatest(child.reltuples, 0)::bigint AS expected_rows,
    coalesce(pg_relation_size(child.oid) / current_setting('block_size')::int, 0) AS blocks
FROM pg_catalog.pg_inherits AS link
JOIN pg_catalog.pg_class AS child ON child.oid = link.inhrelid
CROSS JOIN LATERAL pg_catalog.pg_get_expr(child.relpartbound, child.oid) AS bound
WHERE link.inhparent = 'events'::regclass
    -- One that is being dropped has no bound any more.
    AND bound IS NOT NULL
ORDER BY begins NULLS FIRST;

-- name: days_ago(days)$
-- A time so many days ago, by PostgreSQL's clock.
SELECT now() - make_interval(days => :days);

-- name: lock_partitions()!
-- Only one transaction at a time changes partitions.
SELECT pg_advisory_xact_lock(hashtextextended('hogsend.events.partitions', 0));

-- name: wait_briefly()!
-- Statements that store or list events wait behind one that waits for its lock.
SET LOCAL lock_timeout = '250ms';

-- name: keep_from_sweep(name)!
-- Wait for a step of a sweep, which finds the table gone afterwards.
SELECT pg_advisory_xact_lock(hashtext('retention'), hashtext(:name));

-- name: bound()^
-- The constraint that is to bound the table from before there were partitions, if it has one already.
SELECT conname AS name, convalidated AS is_valid FROM pg_catalog.pg_constraint
WHERE conrelid = to_regclass('events_unpartitioned')
    AND starts_with(conname::text, 'events_unpartitioned_until_');
