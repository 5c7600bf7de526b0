-- name: take_over(sources, ids, names, user_ids, backfilled_at, received_at, queued_at)!
-- Events that a backfill stored at a time, and that now come as they happened: no longer of the past. With
-- their time of receipt they may move to another partition.
UPDATE events AS event SET backfilled = false, received_at = wanted.received_at,
    queued_at = wanted.queued_at, stored_at = statement_timestamp()
FROM unnest(:sources::text[], :ids::text[], :names::text[], :user_ids::text[],
    :backfilled_at::timestamptz[], :received_at::timestamptz[], :queued_at::timestamptz[])
    AS wanted (source, id, event, user_id, backfilled_at, received_at, queued_at)
WHERE event.received_at = wanted.backfilled_at
    AND (event.source, event.id, event.event, event.user_id)
        = (wanted.source, wanted.id, wanted.event, wanted.user_id);

-- name: way(source, id, event, user_id)^
-- The id of the request that brought an event, and when it was queued and stored.
SELECT correlation_id, queued_at, stored_at FROM events
WHERE source = :source AND id = :id AND hashtextextended(event, 0) = hashtextextended(:event, 0)
    AND hashtextextended(user_id, 0) = hashtextextended(:user_id, 0)
    AND event = :event AND user_id = :user_id;
