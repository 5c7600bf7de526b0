-- name: take_over(sources, ids, names, user_ids, backfilled_at, received_at, queued_at)!
-- Turn events of a backfill into ordinary events, because their webhooks have arrived. With the new time of
-- receipt they may move to another partition.
UPDATE events AS event SET backfilled = false, received_at = repeated.received_at,
    queued_at = repeated.queued_at, stored_at = statement_timestamp()
FROM unnest(:sources::text[], :ids::text[], :names::text[], :user_ids::text[],
    :backfilled_at::timestamptz[], :received_at::timestamptz[], :queued_at::timestamptz[])
    AS repeated (source, id, event, user_id, backfilled_at, received_at, queued_at)
WHERE event.received_at = repeated.backfilled_at
    AND (event.source, event.id, event.event, event.user_id)
        = (repeated.source, repeated.id, repeated.event, repeated.user_id);

-- name: stages(source, id, event, user_id)^
-- The correlation id of an event, and when it was queued and stored.
SELECT correlation_id, queued_at, stored_at FROM events
WHERE source = :source AND id = :id AND hashtextextended(event, 0) = hashtextextended(:event, 0)
    AND hashtextextended(user_id, 0) = hashtextextended(:user_id, 0)
    AND event = :event AND user_id = :user_id;
