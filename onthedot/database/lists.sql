-- Reading for lists, counts and figures. {where} and {order} are put together in lists.py.

-- name: list_tasks
SELECT <task>, next_due_at <= now() AND EXISTS (
    SELECT FROM runs WHERE runs.task_id = tasks.id AND runs.due_at = tasks.next_due_at) AS in_hand
FROM tasks WHERE {where} ORDER BY {order} LIMIT {limit};

-- name: task_ids
SELECT id FROM tasks WHERE {where} ORDER BY id LIMIT {limit};

-- name: list_runs
-- No output and no result: at 16 KiB a row they would make a list megabytes.
SELECT run_id, task_id, task_version, trigger, due_at, started_at, finished_at, lag_ms, status,
       reason, attempt_count, worker, NULL AS output, NULL AS output_size, error, NULL AS result,
       asked_by, NULL AS arguments
FROM runs WHERE {where} ORDER BY due_at DESC, run_id DESC LIMIT {limit};

-- name: upcoming_tasks
SELECT <task>, next_due_at <= now() AND EXISTS (
    SELECT FROM runs WHERE runs.task_id = tasks.id AND runs.due_at = tasks.next_due_at) AS in_hand
FROM tasks
WHERE state = 'active' AND next_due_at < %(before)s
ORDER BY next_due_at, id LIMIT %(limit)s;

-- name: limits
SELECT named.key AS name, count(*) AS tasks,
       array_agg(DISTINCT named.value::int ORDER BY named.value::int) AS sizes
FROM tasks, jsonb_each_text(spec #> '{policies,limits}') AS named
WHERE state <> 'deleted' AND spec #> '{policies,limits}' <> '{}'
  AND named.key > %(after)s AND named.key = coalesce(%(name)s::text, named.key)
GROUP BY named.key ORDER BY named.key LIMIT %(limit)s;

-- name: task_states
SELECT state, count(*) AS tasks FROM tasks GROUP BY state;

-- name: pending
SELECT (SELECT count(*) FROM tasks WHERE engine_version < version) AS changes,
       (SELECT count(*) FROM requests WHERE sent_at IS NULL) AS requests;

-- name: run_statuses
-- This and the next look at a bounded number of rows, the newest: a busy log has millions an hour.
SELECT status, count(*) AS day, count(*) FILTER (WHERE due_at >= %(now)s - interval '1 hour') AS hour
FROM (SELECT status, due_at FROM runs
      WHERE due_at >= %(now)s - interval '1 day' AND due_at <= %(now)s
      ORDER BY due_at DESC LIMIT %(limit)s) AS newest
GROUP BY status;

-- name: lag
SELECT count(*) AS runs, max(lag_ms) AS max_ms,
       percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY lag_ms) AS percentiles
FROM (SELECT lag_ms FROM runs
      WHERE due_at >= %(now)s - interval '1 hour' AND due_at <= %(now)s
        AND trigger = 'schedule' AND lag_ms IS NOT NULL
      ORDER BY due_at DESC LIMIT %(limit)s) AS newest;
