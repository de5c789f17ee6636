-- The desired state. A change is guarded by the version that it was made from. Its time is after
-- that of the one before, whatever the clocks say.

-- name: insert_task
WITH kept AS (
    INSERT INTO tasks (
        id, name, spec, tags, state, created_by, created_at, updated_by, updated_at, next_due_at)
    VALUES (
        %(id)s, %(name)s, %(spec)s, %(tags)s, 'active', %(by)s, %(now)s, %(by)s, %(now)s,
        %(next_due_at)s)
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name, spec = excluded.spec, tags = excluded.tags, state = 'active',
        version = tasks.version + 1, created_by = excluded.created_by,
        created_at = excluded.created_at, updated_by = excluded.updated_by,
        updated_at = greatest(excluded.updated_at, tasks.updated_at + interval '1 microsecond'),
        next_due_at = excluded.next_due_at, last_run_at = NULL, last_status = NULL,
        run_count = 0, failure_count = 0, catch_up = NULL, let_finish = false
    WHERE tasks.state = 'deleted'
    RETURNING *
), remembered AS (
    INSERT INTO task_versions (task_id, version, spec, state, what, at, by)
    SELECT id, version, spec, state, 'registered', updated_at, updated_by FROM kept
)
SELECT <task>, pg_notify(%(channel)s, %(news)s) FROM kept;

-- name: get_task
SELECT <task>, next_due_at <= now() AND EXISTS (
    SELECT FROM runs WHERE runs.task_id = tasks.id AND runs.due_at = tasks.next_due_at) AS in_hand
FROM tasks WHERE id = %(id)s;

-- name: change_task
WITH changed AS (
    UPDATE tasks SET
        name = %(name)s, spec = %(spec)s, tags = %(tags)s, state = %(state)s,
        version = version + 1, updated_by = %(by)s,
        updated_at = greatest(%(now)s, updated_at + interval '1 microsecond'),
        next_due_at = %(next_due_at)s, pause_reason = %(pause_reason)s,
        paused_until = %(paused_until)s, paused_at = %(paused_at)s, paused_by = %(paused_by)s,
        catch_up = %(catch_up)s, let_finish = %(let_finish)s
    WHERE id = %(id)s AND version = %(version)s AND state = %(from_state)s
    RETURNING *
), remembered AS (
    INSERT INTO task_versions (task_id, version, spec, state, what, at, by, reason)
    SELECT id, version, spec, state, %(what)s, updated_at, updated_by, %(reason)s FROM changed
)
SELECT <task>, pg_notify(%(channel)s, %(news)s) FROM changed;

-- name: list_versions
SELECT <version> FROM task_versions
WHERE task_id = %(id)s AND version < %(before)s
ORDER BY version DESC LIMIT %(limit)s;

-- name: some_versions
SELECT <version> FROM task_versions WHERE task_id = %(id)s AND version = ANY(%(versions)s);

-- name: forget_versions
DELETE FROM task_versions USING tasks
WHERE task_versions.task_id = tasks.id AND task_versions.at < %(before)s
  AND task_versions.version <= tasks.version - %(kept)s;

-- name: mark_taken
WITH taken AS (
    SELECT * FROM unnest(%(ids)s::text[], %(versions)s::bigint[]) AS taken (task_id, taken_version)
), marked AS (
    UPDATE tasks SET engine_version = taken_version
    FROM taken WHERE id = task_id AND engine_version < taken_version
        AND taken_version <= version -- which may be lost
)
SELECT <task> FROM tasks JOIN taken ON id = task_id AND version > taken_version;

-- name: not_in_step
SELECT <task> FROM tasks
WHERE engine_version < version AND updated_at < %(before)s AND id > %(after)s
ORDER BY id LIMIT %(limit)s;

-- name: open_tasks
SELECT <task> FROM tasks WHERE state IN ('active', 'paused') AND id > %(after)s
ORDER BY id LIMIT %(limit)s;

-- name: some_tasks
SELECT <task> FROM tasks WHERE id = ANY(%(ids)s);

-- name: lock_follow_ups
SELECT pg_advisory_xact_lock(hashtext('onthedot follow_ups'));

-- name: follow_ups_of
SELECT id, ARRAY(
    SELECT jsonb_array_elements_text(
        coalesce(spec #> '{follow_ups,on_success}', '[]') || coalesce(spec #> '{follow_ups,on_failure}', '[]'))
) AS followers
FROM tasks WHERE id = ANY(%(ids)s) AND state <> 'deleted';

-- name: remember_key
INSERT INTO idempotency_keys (key, fingerprint, subject) VALUES (%(key)s, %(fingerprint)s, %(subject)s)
ON CONFLICT (key) DO NOTHING;

-- name: get_key
SELECT fingerprint, subject FROM idempotency_keys WHERE key = %(key)s;

-- name: forget_keys
DELETE FROM idempotency_keys WHERE created_at < %(before)s;

-- name: insert_request
INSERT INTO requests (id, task_id, kind, body, reason, created_by, created_at)
VALUES (%(id)s, %(task_id)s, %(kind)s, %(body)s, %(reason)s, %(by)s, %(now)s)
ON CONFLICT (id) DO NOTHING;

-- name: get_request
SELECT <request> FROM requests WHERE id = %(id)s;

-- name: mark_sent
UPDATE requests SET sent_at = now() WHERE id = %(id)s AND sent_at IS NULL;

-- name: requests_not_sent
SELECT <request> FROM requests
WHERE sent_at IS NULL AND created_at < %(before)s
  AND (%(at)s::timestamptz IS NULL OR (created_at, id) > (%(at)s::timestamptz, %(at_id)s::text))
ORDER BY created_at, id LIMIT %(limit)s;

-- name: unsent_with_run
SELECT <request> FROM requests
WHERE task_id = %(task_id)s AND sent_at IS NULL AND body -> 'orders' @> %(orders)s LIMIT 1;

-- name: list_requests
SELECT <request> FROM requests
WHERE task_id = %(task_id)s
  AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s::timestamptz, %(at_id)s::text))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s;

-- name: forget_requests
DELETE FROM requests WHERE sent_at IS NOT NULL AND created_at < %(before)s;

-- name: tell
SELECT pg_notify(%(channel)s, %(news)s);
