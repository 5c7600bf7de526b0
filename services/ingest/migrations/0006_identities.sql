-- migrate:up
-- Emails are keys in one form, trimmed and in lower case; ids that programs write for nobody and
-- texts that are no address are no keys at all (corrections C5 and C6). Contacts stay. Databases in
-- Turkish have another small letter for I.
CREATE FUNCTION pg_temp.folded_email(email text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT lower(translate(btrim(email,
        E' \t\n\u000b\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006'
        || E'\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff'), 'I', 'i'))
$$;
-- The address in a text, as `hogsend.contract.identity.contact_email` finds it: without quotes and zero-width
-- characters around it, the one in brackets of `Ada <ada@example.com>`, the one after `mailto:`. A text
-- without an address is only folded.
CREATE FUNCTION pg_temp.contact_email(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    around text := E' \t\n\u000b\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006'
        || E'\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff'
        || E'\u200b\u200c\u200d\u2060';
    folded text := pg_temp.folded_email(value);
    email text := btrim(folded, around);
BEGIN
    FOR pair IN 1..3 LOOP
        EXIT WHEN length(email) < 2 OR left(email, 1) <> right(email, 1)
            OR left(email, 1) NOT IN ('''', '"', '`');
        email := btrim(substr(email, 2, length(email) - 2), around);
    END LOOP;
    IF email LIKE '%<%>' THEN
        email := regexp_replace(left(email, -1), '^.*<', '');
    END IF;
    IF starts_with(email, 'mailto:') THEN
        email := split_part(substr(email, 8), '?', 1);
    END IF;
    RETURN CASE WHEN email ~ '^[^\s@<>]+@[^\s@<>]+$' THEN email ELSE folded END;
END
$$;
CREATE FUNCTION pg_temp.names_nobody(user_id text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT lower(translate(btrim(user_id, E' \t\n\u000b\f\r''"`'), 'I', 'i')) IN ('', 'anonymous',
        'guest', 'distinctid', 'distinct_id', 'id', 'not_authenticated', 'email', 'undefined', 'true', 'false', 'null',
        '(null)', '<null>', 'none', 'nil', 'nan', '0', '[object object]', '[object undefined]',
        '[object null]', '00000000-0000-0000-0000-000000000000')
$$;

DELETE FROM ingest.contact_keys WHERE kind = 'external' AND pg_temp.names_nobody(value);
UPDATE ingest.contacts SET external_id = NULL WHERE pg_temp.names_nobody(external_id);
DELETE FROM ingest.contact_keys
WHERE kind = 'email' AND pg_temp.contact_email(value) !~ '^[^\s@<>]+@[^\s@<>]+$';

-- An address in several spellings leads to one contact now: one with a user id, else the oldest.
CREATE TEMPORARY TABLE spelling AS
SELECT key.value, pg_temp.contact_email(key.value) AS email, key.contact_id,
    first_value(key.contact_id) OVER (
        PARTITION BY pg_temp.contact_email(key.value)
        ORDER BY contact.external_id IS NULL, contact.created_at, contact.id
    ) AS owner
FROM ingest.contact_keys AS key JOIN ingest.contacts AS contact ON contact.id = key.contact_id
WHERE key.kind = 'email';
DELETE FROM spelling AS one WHERE NOT EXISTS (
    SELECT FROM spelling AS other WHERE other.email = one.email AND other.value <> other.email);
-- Another contact that is known by nothing but this address becomes part of the owner.
CREATE TEMPORARY TABLE merged AS
SELECT contact.*, spelling.owner FROM spelling JOIN ingest.contacts AS contact ON contact.id = contact_id
WHERE contact_id <> owner AND contact.external_id IS NULL
    AND (SELECT count(*) FROM ingest.contact_keys AS key WHERE key.contact_id = contact.id) = 1;

DELETE FROM ingest.contact_keys AS key USING spelling
WHERE key.kind = 'email' AND key.value = spelling.value;
INSERT INTO ingest.contact_keys (kind, digest, value, contact_id)
SELECT DISTINCT 'email', sha256(convert_to(email, 'UTF8')), email, owner FROM spelling;

UPDATE ingest.contacts AS contact SET
    properties = coalesce((SELECT jsonb_object_agg(bag.key, bag.value ORDER BY one.last_seen_at)
        FROM merged AS one, jsonb_each(one.properties) AS bag WHERE one.owner = contact.id
        ), '{}') || contact.properties,
    versions = coalesce((SELECT jsonb_object_agg(bag.key, bag.value ORDER BY one.last_seen_at)
        FROM merged AS one, jsonb_each(one.versions) AS bag WHERE one.owner = contact.id
        ), '{}') || contact.versions,
    timezone = coalesce(contact.timezone,
        (SELECT max(one.timezone) FROM merged AS one WHERE one.owner = contact.id)),
    first_seen_at = least(contact.first_seen_at,
        (SELECT min(one.first_seen_at) FROM merged AS one WHERE one.owner = contact.id)),
    last_seen_at = greatest(contact.last_seen_at,
        (SELECT max(one.last_seen_at) FROM merged AS one WHERE one.owner = contact.id))
WHERE contact.id IN (SELECT owner FROM merged);
INSERT INTO ingest.contact_keys (kind, digest, value, contact_id)
SELECT 'row', sha256(id::text::bytea), id::text, owner FROM merged;
DELETE FROM ingest.contacts WHERE id IN (SELECT id FROM merged);
UPDATE ingest.contacts SET email = pg_temp.contact_email(email)
WHERE email <> pg_temp.contact_email(email);

-- migrate:down
-- Forward only.
