-- migrate:up
-- Of what fails, the latest attempt: how it ended, and when the next one is.
ALTER TABLE analytics.failing
    ADD COLUMN attempts        integer,
    ADD COLUMN response_status integer,
    ADD COLUMN error           text,
    ADD COLUMN tried_at        timestamptz,
    ADD COLUMN next_at         timestamptz;

-- migrate:down
-- Forward only.
