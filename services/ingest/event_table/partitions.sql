-- name: partitions()
-- The partitions of events, in order of time. The first has no start. The table from before partitions existed
-- has no end either, until it is given one.
SELECT child.oid AS relation, child.relname AS name,
    substring(bound FROM 'FROM \(''([^'']+)')::timestamptz AS begins,
    substring(bound FROM 'TO \(''([^'']+)')::timestamptz AS ends,
    greatest(child.reltuples, 0)::bigint AS expected_rows,
    coalesce(pg_relation_size(child.oid) / current_setting('block_size')::int, 0) AS blocks
FROM pg_catalog.pg_inherits AS link
JOIN pg_catalog.pg_class AS child ON child.oid = link.inhrelid
CROSS JOIN LATERAL pg_catalog.pg_get_expr(child.relpartbound, child.oid) AS bound
WHERE link.inhparent = 'events'::regclass
    -- A partition that is being dropped has no bound any more.
    AND bound IS NOT NULL
ORDER BY begins NULLS FIRST;

-- name: days_ago(days)$
-- The time some days ago, by PostgreSQL's clock.
SELECT now() - make_interval(days => :days);

-- name: lock_partitions()!
-- Lock: only one transaction at a time changes partitions.
SELECT pg_advisory_xact_lock(hashtextextended('hogsend.events.partitions', 0));

-- name: wait_briefly()!
-- Wait only briefly for locks: statements that store or list events queue up after a waiting one.
SET LOCAL lock_timeout = '250ms';

-- name: wait_for_sweep(name)!
-- Wait for the current step of a retention sweep. The next step finds that the table does not exist.
SELECT pg_advisory_xact_lock(hashtext('retention'), hashtext(:name));

-- name: bound()^
-- The constraint that gives the table from before partitions existed its end, if it has one.
SELECT conname AS name, convalidated AS is_valid FROM pg_catalog.pg_constraint
WHERE conrelid = to_regclass('events_unpartitioned')
    AND starts_with(conname::text, 'events_unpartitioned_until_');
