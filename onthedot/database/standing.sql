-- How the whole stands, for /metrics: it is asked every few seconds.

-- name: tasks
SELECT state, CASE WHEN state = 'active' THEN spec->>'queue' END AS queue, count(*) AS tasks
FROM tasks GROUP BY 1, 2;

-- name: ages
-- Seconds since the oldest change, and the oldest request, that the engine has not taken.
SELECT extract(epoch FROM now() - (
           SELECT min(updated_at) FROM tasks WHERE engine_version < version))::float8 AS change,
       extract(epoch FROM now() - (
           SELECT min(created_at) FROM requests WHERE sent_at IS NULL))::float8 AS request;

-- name: overdue
-- Active tasks whose due time has passed without any trace of its run in the log.
SELECT count(*) AS tasks FROM (
    SELECT FROM tasks
    WHERE state = 'active' AND next_due_at < now() - %(grace)s
      AND NOT EXISTS (
          SELECT FROM runs WHERE runs.task_id = tasks.id AND runs.due_at = tasks.next_due_at)
    LIMIT %(limit)s) AS late;
