-- migrate:up
-- Most events say of their person what is known already. Such a contact is not written whole: when
-- that was, and which event it was, goes here, and is the version of its address and of every property.
-- NULL where each has a version of its own, as after every write of the whole contact (docs/adr/0032).
-- With room on its pages a contact is updated in place, and none of its indexes is written.
ALTER TABLE ingest.contacts
    ADD COLUMN restated_at timestamptz,
    ADD COLUMN restated_by text,
    SET (fillfactor = 70);

-- migrate:down
-- Forward only.
