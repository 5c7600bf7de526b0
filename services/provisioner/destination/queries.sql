-- name: provisioned(project)
-- Read the URL each destination of a project was given.
SELECT hog_function_id, webhook_url FROM destinations WHERE project_id = :project;

-- name: remember(project, hog_function, webhook_url)!
-- Record which URL a destination was given.
INSERT INTO destinations (project_id, hog_function_id, webhook_url)
VALUES (:project, :hog_function, :webhook_url)
ON CONFLICT (project_id, hog_function_id) DO UPDATE
SET webhook_url = excluded.webhook_url, provisioned_at = now();
