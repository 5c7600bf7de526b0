-- name: contacts(limit, offset)
-- All contacts, those that were seen last first. There is no index for it: it would be written with every
-- event. So all contacts are sorted if `latest_seen` finds too few. Only the rows of the page are read in full.
WITH shown AS MATERIALIZED (
    SELECT id FROM contacts ORDER BY last_seen_at DESC, id DESC LIMIT :limit OFFSET :offset
)
SELECT id, external_id, email, timezone, properties, first_seen_at, last_seen_at, created_at,
    updated_at
FROM contacts WHERE id IN (SELECT id FROM shown) ORDER BY last_seen_at DESC, id DESC;

-- name: latest_seen(most, contacts, limit, offset)
-- Contacts of the latest events, those that were seen last first. A contact is seen when an event of it
-- occurs, or is received if that is earlier. So each contact that was seen after the earliest of these events
-- has one among them, and only such contacts are listed. Events of the last 23 hours are complete: retention
-- keeps each for at least a day, by a clock that may differ. Of very many contacts only those that were seen
-- last are looked up; then no contact is listed that was seen before them.
WITH latest AS MATERIALIZED (
    SELECT contact_id, occurred_at, received_at FROM events
    WHERE occurred_at > now() - interval '23 hours'
    ORDER BY occurred_at DESC, received_at DESC LIMIT :most
), own AS MATERIALIZED (
    SELECT contact_id, max(least(occurred_at, received_at)) AS seen_at FROM latest
    GROUP BY contact_id ORDER BY seen_at DESC LIMIT :contacts
), since AS MATERIALIZED (
    SELECT greatest(
        CASE WHEN count(*) = :most THEN min(occurred_at) ELSE now() - interval '23 hours' END,
        (SELECT min(seen_at) FROM own HAVING count(*) = :contacts)) AS moment
    FROM latest
), seen AS MATERIALIZED (
    SELECT DISTINCT coalesce(moved.contact_id, own.contact_id) AS id
    FROM own
    LEFT JOIN contact_keys AS moved ON moved.kind = 'row'
        AND moved.digest = sha256(own.contact_id::text::bytea)
)
SELECT id, external_id, email, timezone, properties, first_seen_at, last_seen_at, created_at,
    updated_at
FROM contacts
WHERE id IN (SELECT id FROM seen) AND last_seen_at > (SELECT moment FROM since)
ORDER BY last_seen_at DESC, id DESC LIMIT :limit OFFSET :offset;

-- name: newest(before, before_created, before_id, limit)
-- All contacts, those that were created last first; after a position if one is given.
SELECT id, external_id, email, timezone, properties, first_seen_at, last_seen_at, created_at,
    updated_at
FROM contacts
WHERE NOT :before::boolean OR (created_at, id) < (:before_created::timestamptz, :before_id::uuid)
ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: searched(search, small, capital, pattern, small_pattern, capital_pattern, lowest_id, highest_id, most_by_prefix, most_recent, newest, before, before_created, before_id, limit, offset)
-- Contacts that match a search, those first that were created or seen last, and how many match. Each index
-- returns a bounded number of contacts by their prefix, and the latest contacts are compared with any part of
-- their text. Only the rows of the page are read in full. The search is compared in three forms (as it is, in
-- lower case, in upper case) because the database's locale may have rules of its own, as Turkish has for I.
-- Elsewhere PostgreSQL recognises that the three conditions are the same.
WITH by_prefix AS MATERIALIZED (
    (SELECT id, created_at, last_seen_at FROM contacts
        WHERE (lower(left(email, 100)) LIKE lower(:pattern::text)
                OR lower(left(email, 100)) LIKE lower(:small_pattern::text)
                OR lower(left(email, 100)) LIKE lower(:capital_pattern::text))
            AND (length(:search::text) <= 100 OR starts_with(lower(email), lower(:search))
                OR starts_with(lower(email), lower(:small::text))
                OR starts_with(lower(email), lower(:capital::text)))
        LIMIT :most_by_prefix)
    UNION ALL
    (SELECT id, created_at, last_seen_at FROM contacts
        WHERE (lower(left(external_id, 100)) LIKE lower(:pattern::text)
                OR lower(left(external_id, 100)) LIKE lower(:small_pattern::text)
                OR lower(left(external_id, 100)) LIKE lower(:capital_pattern::text))
            AND (length(:search::text) <= 100 OR starts_with(lower(external_id), lower(:search))
                OR starts_with(lower(external_id), lower(:small::text))
                OR starts_with(lower(external_id), lower(:capital::text)))
        LIMIT :most_by_prefix)
    UNION ALL
    (SELECT id, created_at, last_seen_at FROM contacts
        WHERE id BETWEEN :lowest_id::uuid AND :highest_id::uuid
        LIMIT :most_by_prefix)
), found AS MATERIALIZED (
    SELECT id, created_at, last_seen_at FROM by_prefix
    UNION
    SELECT id, created_at, last_seen_at FROM (
        SELECT id, created_at, last_seen_at,
            lower(concat_ws(E'\n', email, external_id, id)) AS text
        FROM contacts
        ORDER BY created_at DESC, id DESC LIMIT :most_recent
    ) AS recent
    WHERE position(lower(:search) IN text) > 0 OR position(lower(:small) IN text) > 0
        OR position(lower(:capital) IN text) > 0
), shown AS MATERIALIZED (
    SELECT id FROM found
    WHERE NOT :before::boolean
        OR (created_at, id) < (:before_created::timestamptz, :before_id::uuid)
    ORDER BY CASE WHEN :newest::boolean THEN created_at ELSE last_seen_at END DESC, id DESC
    LIMIT :limit OFFSET :offset
)
SELECT id, external_id, email, timezone, properties, first_seen_at, last_seen_at, created_at,
    updated_at,
    (SELECT count(*) FROM found) AS total, (SELECT count(*) FROM by_prefix) AS by_prefix
FROM contacts
WHERE id IN (SELECT id FROM shown)
ORDER BY CASE WHEN :newest THEN created_at ELSE last_seen_at END DESC, id DESC;

-- name: total(most)$
-- How many contacts there are, counted up to a number.
SELECT count(*) FROM (SELECT FROM contacts LIMIT :most) AS counted;

-- name: expected_total()$
-- PostgreSQL's plan, which contains how many contacts it expects.
EXPLAIN (FORMAT JSON) SELECT FROM contacts;

-- name: contacts_by_id(ids)
-- Contacts in the order of their ids.
SELECT contact.id, external_id, email, timezone, properties, first_seen_at, last_seen_at,
    created_at, updated_at
FROM unnest(:ids::uuid[]) WITH ORDINALITY AS requested (id, position)
JOIN contacts AS contact ON contact.id = requested.id
ORDER BY position;
