-- migrate:up
-- Destinations in PostHog that this instance made or took over, and the URL it gave them.
CREATE TABLE provisioner.destinations (
    project_id      text        NOT NULL,
    hog_function_id text        NOT NULL,
    webhook_url     text        NOT NULL,
    provisioned_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, hog_function_id)
);

-- migrate:down
-- Forward only.
