-- name: contacts(limit, offset)
-- All contacts, those that were seen last first. No index helps: one would have to be written with
-- every event of every contact. So all are sorted, where `latest_seen` does not say enough; only those
-- that are shown are read whole.
WITH shown AS MATERIALIZED (
    SELECT id FROM contacts ORDER BY last_seen_at DESC, id DESC LIMIT :limit OFFSET :offset
)
SELECT id, external_id, email, timezone, properties, first_seen_at, last_seen_at, created_at,
    updated_at
FROM contacts WHERE id IN (SELECT id FROM shown) ORDER BY last_seen_at DESC, id DESC;

-- name: latest_seen(most, contacts, limit, offset)
-- Contacts of the latest events, those that were seen last first. A contact is seen when an event of it
-- happens, or is received where that is earlier, so each that was seen after the earliest of these events
-- has one among them, and no other is listed. Events of the last 23 hours are all there: retention
-- deletes none before a day has passed, by a clock that may differ. Of very many contacts only those that
-- were seen last are looked up; then no contact is listed that was seen before them.
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
-- All contacts, those that were made last first; those after a position when there is one.
SELECT id, external_id, email, timezone, properties, first_seen_at, last_seen_at, created_at,
    updated_at
FROM contacts
WHERE NOT :before::boolean OR (created_at, id) < (:before_created::timestamptz, :before_id::uuid)
ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: searched(search, small, capital, pattern, small_pattern, capital_pattern, lowest_id, highest_id, most_begun, most_recent, newest, before, before_created, before_id, limit, offset)
-- Contacts that a search finds, those first that were made or seen last, and how many there are.
-- Each index gives a bounded number, and of the latest contacts any part is looked through. Only what
-- is shown is read whole. Small and capital letters of a text are three texts where the database's
-- language has a rule of its own, as Turkish has for I; elsewhere PostgreSQL sees that they are one.
WITH begun AS MATERIALIZED (
    (SELECT id, created_at, last_seen_at FROM contacts
        WHERE (lower(left(email, 100)) LIKE lower(:pattern::text)
                OR lower(left(email, 100)) LIKE lower(:small_pattern::text)
                OR lower(left(email, 100)) LIKE lower(:capital_pattern::text))
            AND (length(:search::text) <= 100 OR starts_with(lower(email), lower(:search))
                OR starts_with(lower(email), lower(:small::text))
                OR starts_with(lower(email), lower(:capital::text)))
        LIMIT :most_begun)
    UNION ALL
    (SELECT id, created_at, last_seen_at FROM contacts
        WHERE (lower(left(external_id, 100)) LIKE lower(:pattern::text)
                OR lower(left(external_id, 100)) LIKE lower(:small_pattern::text)
                OR lower(left(external_id, 100)) LIKE lower(:capital_pattern::text))
            AND (length(:search::text) <= 100 OR starts_with(lower(external_id), lower(:search))
                OR starts_with(lower(external_id), lower(:small::text))
                OR starts_with(lower(external_id), lower(:capital::text)))
        LIMIT :most_begun)
    UNION ALL
    (SELECT id, created_at, last_seen_at FROM contacts
        WHERE id BETWEEN :lowest_id::uuid AND :highest_id::uuid
        LIMIT :most_begun)
), found AS MATERIALIZED (
    SELECT id, created_at, last_seen_at FROM begun
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
    (SELECT count(*) FROM found) AS total, (SELECT count(*) FROM begun) AS begun
FROM contacts
WHERE id IN (SELECT id FROM shown)
ORDER BY CASE WHEN :newest THEN created_at ELSE last_seen_at END DESC, id DESC;

-- name: total(most)$
-- How many contacts there are, counted up to a number.
SELECT count(*) FROM (SELECT FROM contacts LIMIT :most) AS counted;

-- name: expected_total()$
-- PostgreSQL's plan, which says how many contacts it expects.
EXPLAIN (FORMAT JSON) SELECT FROM contacts;

-- name: contacts_by_id(ids)
-- Contacts in the order of their ids.
SELECT contact.id, external_id, email, timezone, properties, first_seen_at, last_seen_at,
    created_at, updated_at
FROM unnest(:ids::uuid[]) WITH ORDINALITY AS wanted (id, position)
JOIN contacts AS contact ON contact.id = wanted.id
ORDER BY position;

-- name: keys(contact)
-- What leads to a contact, its addresses left out.
SELECT kind, value FROM contact_keys WHERE contact_id = :contact AND kind <> 'email';

-- name: timeline(user_ids, contacts, mails, others, limit, offset)
-- Events of a contact, the latest first. The contact finds them, and the user ids tell whose they are: a
-- merge may have been undone. An id that leads to no contact, such as `anonymous`, leaves it to the address;
-- it is looked up only where the contact has no such id. Found first and sorted then: walking along all
-- events in their order ends soon for those who did something lately, and never for the others.
SELECT id, event, source, occurred_at, properties
FROM (
    SELECT id, event, source, occurred_at, received_at, properties FROM events
    WHERE contact_id = ANY(:contacts::uuid[]) AND (user_id = ANY(:user_ids::text[])
        OR (SELECT key.contact_id FROM contact_keys AS key WHERE key.kind = 'external'
            AND key.digest = sha256(convert_to(events.user_id, 'UTF8')) LIMIT 1) IS NULL)
        AND CASE WHEN source = 'hogsend' AND starts_with(event, 'email.') THEN :mails::boolean
            ELSE :others::boolean END
    OFFSET 0
) AS own
ORDER BY occurred_at DESC, received_at DESC, source DESC, id DESC
LIMIT :limit OFFSET :offset;

-- name: timeline_total(user_ids, contacts, mails, others)$
-- How many events of a contact there are.
SELECT count(*) FROM events
WHERE contact_id = ANY(:contacts::uuid[]) AND (user_id = ANY(:user_ids::text[])
    OR (SELECT key.contact_id FROM contact_keys AS key WHERE key.kind = 'external'
        AND key.digest = sha256(convert_to(events.user_id, 'UTF8')) LIMIT 1) IS NULL)
    AND CASE WHEN source = 'hogsend' AND starts_with(event, 'email.') THEN :mails::boolean
        ELSE :others::boolean END;

-- name: happened(now, most)$
-- How much happened in a day, counted up to a number.
SELECT count(*) FROM (SELECT FROM events WHERE occurred_at > :now::timestamptz - interval '1 day'
    AND occurred_at <= :now::timestamptz LIMIT :most) AS counted;

-- name: expected_to_have_happened(now)$
-- PostgreSQL's plan, which says how many events of a day it expects.
EXPLAIN (FORMAT JSON) SELECT FROM events WHERE occurred_at > :now::timestamptz - interval '1 day'
    AND occurred_at <= :now::timestamptz;
