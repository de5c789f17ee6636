-- The log. A row moves forward only: waiting, running, final. It gives way where its task was
-- deleted before it could start, and registered again before it was due.

-- name: flush
WITH entered AS (
    SELECT * FROM unnest(
        %(run_id)s::text[], %(task_id)s::text[], %(task_version)s::bigint[], %(trigger)s::text[],
        %(due_at)s::timestamptz[], %(started_at)s::timestamptz[], %(finished_at)s::timestamptz[],
        %(status)s::text[], %(reason)s::text[], %(attempt_count)s::int[], %(worker)s::text[],
        %(output)s::text[], %(output_size)s::bigint[], %(error)s::text[], %(result)s::jsonb[]
    ) AS entered (
        run_id, task_id, task_version, trigger, due_at, started_at, finished_at, status, reason,
        attempt_count, worker, output, output_size, error, result)
), moved AS (
    INSERT INTO runs (
        run_id, task_id, task_version, trigger, due_at, started_at, finished_at, status, reason,
        attempt_count, worker, output, output_size, error, result)
    SELECT * FROM entered
    ON CONFLICT (due_at, run_id) DO UPDATE SET
        task_version = excluded.task_version, started_at = coalesce(runs.started_at, excluded.started_at),
        finished_at = excluded.finished_at, status = excluded.status,
        reason = CASE WHEN runs.status = 'cancelled' THEN excluded.reason
                      ELSE coalesce(excluded.reason, runs.reason) END,
        attempt_count = excluded.attempt_count,
        worker = excluded.worker, output = excluded.output, output_size = excluded.output_size,
        error = excluded.error, result = excluded.result
    WHERE run_rank(excluded.status) > run_rank(runs.status)
       OR (runs.status = 'running' AND excluded.status = 'running'
           AND excluded.attempt_count > runs.attempt_count)
       OR (runs.status = 'waiting' AND excluded.status = 'waiting'
           AND excluded.reason <> coalesce(runs.reason, ''))
       OR gives_way(runs, excluded.task_version)
    RETURNING run_id, task_id, due_at, status, started_at, finished_at
), counted AS (
    SELECT task_id,
           count(*) FILTER (WHERE started_at IS NOT NULL) AS ran,
           count(*) FILTER (WHERE status IN ('failed', 'timed_out')) AS failed,
           max(started_at) AS last_run_at,
           (array_agg(status ORDER BY started_at DESC NULLS LAST, finished_at DESC))[1] AS last_status
    FROM moved WHERE run_rank(status) = 2 GROUP BY task_id
), progressed AS (
    UPDATE tasks SET
        -- a run says no state, unless its task is finished: it knows when that is due after it
        next_due_at = CASE WHEN tasks.version <> progress.version THEN tasks.next_due_at
                           WHEN progress.state IS NOT NULL THEN progress.next_due_at
                           WHEN tasks.state = 'active'
                           THEN greatest(tasks.next_due_at, progress.next_due_at)
                           ELSE tasks.next_due_at END,
        state = CASE WHEN tasks.version = progress.version
                     THEN coalesce(progress.state, tasks.state) ELSE tasks.state END,
        -- a task that its workflow pauses or resumes by itself
        pause_reason = CASE WHEN tasks.version <> progress.version
                              OR tasks.state = coalesce(progress.state, tasks.state)
                            THEN tasks.pause_reason
                            WHEN progress.state = 'paused' THEN failed_in_a_row(tasks.spec) END,
        paused_until = CASE WHEN tasks.version <> progress.version
                              OR tasks.state = coalesce(progress.state, tasks.state)
                            THEN tasks.paused_until END,
        paused_at = CASE WHEN tasks.version <> progress.version
                           OR tasks.state = coalesce(progress.state, tasks.state)
                         THEN tasks.paused_at
                         WHEN progress.state = 'paused' THEN now() END,
        paused_by = CASE WHEN tasks.version <> progress.version
                           OR tasks.state = coalesce(progress.state, tasks.state)
                         THEN tasks.paused_by
                         WHEN progress.state = 'paused' THEN 'pause_on_failure' END,
        engine_version = greatest(tasks.engine_version, progress.version),
        run_count = tasks.run_count + coalesce(counted.ran, 0),
        failure_count = tasks.failure_count + coalesce(counted.failed, 0),
        last_status = CASE
            WHEN counted.last_run_at IS NULL THEN coalesce(tasks.last_status, counted.last_status)
            WHEN tasks.last_run_at IS NULL OR counted.last_run_at >= tasks.last_run_at
            THEN counted.last_status ELSE tasks.last_status END,
        last_run_at = greatest(tasks.last_run_at, counted.last_run_at)
    FROM unnest(%(progress_id)s::text[], %(progress_version)s::bigint[],
                %(progress_due)s::timestamptz[], %(progress_state)s::text[])
         AS progress (task_id, version, next_due_at, state)
    LEFT JOIN counted USING (task_id)
    WHERE tasks.id = progress.task_id
), counted_alone AS (  -- rows of a long backlog come without a word on their tasks
    UPDATE tasks SET
        run_count = tasks.run_count + counted.ran,
        failure_count = tasks.failure_count + counted.failed,
        last_status = CASE
            WHEN counted.last_run_at IS NULL THEN coalesce(tasks.last_status, counted.last_status)
            WHEN tasks.last_run_at IS NULL OR counted.last_run_at >= tasks.last_run_at
            THEN counted.last_status ELSE tasks.last_status END,
        last_run_at = greatest(tasks.last_run_at, counted.last_run_at)
    FROM counted
    WHERE tasks.id = counted.task_id AND counted.task_id <> ALL (%(progress_id)s::text[])
)
SELECT run_id FROM moved;

-- name: insert_attempts
INSERT INTO attempts (due_at, run_id, number, status, started_at, finished_at, worker, error)
SELECT * FROM unnest(
    %(due_at)s::timestamptz[], %(run_id)s::text[], %(number)s::int[], %(status)s::text[],
    %(started_at)s::timestamptz[], %(finished_at)s::timestamptz[], %(worker)s::text[],
    %(error)s::text[])
ON CONFLICT DO NOTHING;

-- name: claim
INSERT INTO runs (
    run_id, task_id, task_version, trigger, due_at, started_at, status, attempt_count, worker, claim)
VALUES (%(run_id)s, %(task_id)s, %(task_version)s, %(trigger)s, %(due_at)s, %(started_at)s,
        'running', %(attempt_count)s, %(worker)s, %(claim)s)
ON CONFLICT (due_at, run_id) DO UPDATE SET
    status = 'running', started_at = coalesce(runs.started_at, excluded.started_at),
    task_version = excluded.task_version, finished_at = NULL,
    reason = CASE WHEN runs.status = 'cancelled' THEN excluded.reason ELSE runs.reason END,
    attempt_count = excluded.attempt_count, worker = excluded.worker, claim = excluded.claim
WHERE (run_rank(runs.status) < 2 OR gives_way(runs, excluded.task_version))
  AND (runs.attempt_count < excluded.attempt_count
       OR runs.claim = excluded.claim);  -- this very one, whose answer was lost

-- name: append_output
INSERT INTO run_output (due_at, run_id, attempt, position, chunk)
VALUES (%(due_at)s, %(run_id)s, %(attempt)s, %(position)s, %(chunk)s)
ON CONFLICT DO NOTHING;

-- name: insert_waiting
INSERT INTO runs (
    run_id, task_id, task_version, trigger, due_at, status, reason, asked_by, arguments)
SELECT run_id, %(task_id)s, %(task_version)s, %(trigger)s, due_at, 'waiting', %(reason)s,
       %(asked_by)s, %(arguments)s
FROM unnest(%(run_ids)s::text[], %(due_ats)s::timestamptz[]) AS waiting (run_id, due_at)
ON CONFLICT DO NOTHING;

-- name: get_run
SELECT <run> FROM runs WHERE due_at = %(due_at)s AND run_id = %(run_id)s;

-- name: get_attempts
SELECT number, status, started_at, finished_at, worker, error FROM attempts
WHERE due_at = %(due_at)s AND run_id = %(run_id)s ORDER BY number;

-- name: get_output
SELECT chunk FROM run_output
WHERE due_at = %(due_at)s AND run_id = %(run_id)s AND attempt = (
    SELECT max(attempt) FROM run_output WHERE due_at = %(due_at)s AND run_id = %(run_id)s)
ORDER BY position;

-- name: some_runs
SELECT <run> FROM runs
JOIN unnest(%(run_ids)s::text[], %(due_ats)s::timestamptz[]) AS wanted (id, due)
  ON due_at = due AND run_id = id
ORDER BY due_at, run_id;

-- name: statuses_of_due_times
-- What the log has of the due times of a task, whether they came by themselves or by a backfill.
SELECT due_at, array_agg(DISTINCT status) AS statuses FROM runs
WHERE task_id = %(task_id)s AND due_at >= %(first)s AND due_at <= %(last)s AND trigger NOT IN ('manual', 'follow_up')
GROUP BY due_at;

-- name: had_turn
-- The latest occurrences of a task after an instant that have ended, or were left out.
SELECT due_at FROM runs
WHERE task_id = %(task_id)s AND due_at > %(after)s AND trigger IN ('schedule', 'catch_up')
  AND run_rank(status) = 2 AND NOT gives_way(runs, %(version)s)
ORDER BY due_at DESC LIMIT %(limit)s;

-- name: going_on
-- Runs of a task that wait or go on, the first due first.
SELECT run_id, task_id, task_version, trigger, due_at, started_at, finished_at, lag_ms, status,
       reason, attempt_count, worker, NULL AS output, NULL AS output_size, error, NULL AS result,
       asked_by, NULL AS arguments
FROM runs
WHERE task_id = %(task_id)s AND status IN ('waiting', 'running') AND due_at <= %(now)s
ORDER BY due_at, run_id LIMIT %(limit)s;

-- name: cancel_runs
UPDATE runs SET status = 'cancelled', finished_at = %(now)s, reason = 'its task has come to its end'
FROM unnest(%(run_ids)s::text[], %(due_ats)s::timestamptz[]) AS wanted (run_id, due_at)
WHERE runs.due_at = wanted.due_at AND runs.run_id = wanted.run_id AND run_rank(runs.status) < 2;

-- name: make_month
SELECT make_month(%(moment)s);

-- name: months
SELECT relname AS name FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
WHERE inhparent = 'runs'::regclass ORDER BY relname;

-- name: drop_month
SELECT drop_month(%(suffix)s);

-- name: add_to_reason
UPDATE runs SET reason = concat_ws('; ', reason, %(remark)s::text)
WHERE due_at = %(due_at)s AND run_id = %(run_id)s
  AND position(%(remark)s IN coalesce(reason, '')) = 0;
