-- name: merge(id)^
-- A merge that is not undone: the user ids of its loser, and the contacts that the loser is part of now.
SELECT merge.loser,
    ARRAY(SELECT key ->> 'value' FROM jsonb_array_elements(merge.loser_keys) AS key
        WHERE key ->> 'kind' = 'external') AS user_ids,
    ARRAY(WITH RECURSIVE chain (contact) AS (
            SELECT merge.survivor
            UNION
            SELECT further.survivor FROM chain
            JOIN contact_merges AS further
                ON further.loser = chain.contact AND further.split_at IS NULL
        )
        SELECT contact FROM chain) AS contacts
FROM contact_merges AS merge WHERE merge.id = :id AND merge.split_at IS NULL;

-- name: rows_to_move(user_ids, contacts, relation, begins, ends, most)
-- The row addresses (ctid) of events of these user ids and contacts in one partition. The condition on the
-- prefix is for the index.
SELECT ctid AS place FROM events
WHERE left(user_id, 100) IN (SELECT left(id, 100) FROM unnest(:user_ids::text[]) AS id)
    AND user_id = ANY(:user_ids::text[]) AND contact_id = ANY(:contacts::uuid[])
    AND tableoid = :relation AND received_at >= :begins AND received_at < :ends
LIMIT :most;

-- name: move(loser, user_ids, contacts, relation, begins, ends, places)!
-- Move those events to another contact that are still at their row addresses. `array_position` keeps PostgreSQL
-- from using the index on the contact, which would return all its events each time.
UPDATE events SET contact_id = :loser
WHERE ctid = ANY(:places::tid[]) AND tableoid = :relation
    AND received_at >= :begins AND received_at < :ends
    AND user_id = ANY(:user_ids::text[])
    AND array_position(:contacts::uuid[], contact_id) IS NOT NULL;
