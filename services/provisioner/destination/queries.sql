-- name: provisioned(project)
-- The URLs that this instance set on a project's destinations.
SELECT hog_function_id, webhook_url FROM destinations WHERE project_id = :project;

-- name: record(project, hog_function, webhook_url)!
-- Record the URL that this instance set on a destination.
INSERT INTO destinations (project_id, hog_function_id, webhook_url)
VALUES (:project, :hog_function, :webhook_url)
ON CONFLICT (project_id, hog_function_id) DO UPDATE
SET webhook_url = excluded.webhook_url, provisioned_at = now();
