-- How many tasks are due when.

-- name: count_minute
SELECT count(*) AS due FROM (
    SELECT FROM tasks
    WHERE state <> 'deleted' AND id <> %(id)s
        AND next_due_at >= %(minute)s AND next_due_at < %(minute)s + interval '1 minute'
    LIMIT 10000
) AS counted;

-- name: busy_minutes
SELECT DISTINCT date_trunc('minute', next_due_at) AS minute FROM tasks
WHERE state <> 'deleted' AND id <> %(id)s
    AND next_due_at >= %(minute)s AND next_due_at < %(minute)s + interval '1 hour';
