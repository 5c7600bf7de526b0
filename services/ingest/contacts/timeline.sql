-- name: keys(contact)
-- The keys of a contact, without addresses.
SELECT kind, value FROM contact_keys WHERE contact_id = :contact AND kind <> 'email';

-- name: timeline(user_ids, contacts, mails, others, limit, offset)
-- Events of a contact, the latest first. They are selected by the contact's id. Their user id decides whether
-- they are still the contact's, because a merge may have been undone. An event whose user id is no contact's
-- key, such as `anonymous`, belongs to the contact by its address. OFFSET 0 has PostgreSQL select the events
-- first and sort them then: reading all events in order would be quick only for contacts that were active lately.
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
-- The number of a contact's events.
SELECT count(*) FROM events
WHERE contact_id = ANY(:contacts::uuid[]) AND (user_id = ANY(:user_ids::text[])
    OR (SELECT key.contact_id FROM contact_keys AS key WHERE key.kind = 'external'
        AND key.digest = sha256(convert_to(events.user_id, 'UTF8')) LIMIT 1) IS NULL)
    AND CASE WHEN source = 'hogsend' AND starts_with(event, 'email.') THEN :mails::boolean
        ELSE :others::boolean END;
