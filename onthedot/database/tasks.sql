-- The desired state. A change is guarded by the version that it was made from.

-- name: insert_task
INSERT INTO tasks (
    id, name, spec, tags, state, created_by, created_at, updated_by, updated_at, next_due_at)
VALUES (
    %(id)s, %(name)s, %(spec)s, %(tags)s, 'active', %(by)s, %(now)s, %(by)s, %(now)s,
    %(next_due_at)s)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, spec = excluded.spec, tags = excluded.tags, state = 'active',
    version = tasks.version + 1, created_by = excluded.created_by,
    created_at = excluded.created_at, updated_by = excluded.updated_by,
    updated_at = excluded.updated_at,
    next_due_at = excluded.next_due_at, last_run_at = NULL, last_status = NULL,
    run_count = 0, failure_count = 0
WHERE tasks.state = 'deleted'
RETURNING *, pg_notify(%(channel)s, %(news)s);

-- name: get_task
SELECT * FROM tasks WHERE id = %(id)s;

-- name: change_task
UPDATE tasks SET
    name = %(name)s, spec = %(spec)s, tags = %(tags)s, state = %(state)s,
    version = version + 1, updated_by = %(by)s, updated_at = %(now)s,
    next_due_at = %(next_due_at)s
WHERE id = %(id)s AND version = %(version)s
RETURNING *, pg_notify(%(channel)s, %(news)s);

-- name: mark_taken
WITH taken AS (
    SELECT * FROM unnest(%(ids)s::text[], %(versions)s::bigint[]) AS taken (id, version)
), marked AS (
    UPDATE tasks SET engine_version = taken.version
    FROM taken WHERE tasks.id = taken.id AND tasks.engine_version < taken.version
)
SELECT tasks.* FROM tasks JOIN taken ON tasks.id = taken.id AND tasks.version > taken.version;

-- name: not_in_step
SELECT * FROM tasks
WHERE engine_version < version AND updated_at < %(before)s AND id > %(after)s
ORDER BY id LIMIT %(limit)s;

-- name: open_tasks
SELECT * FROM tasks WHERE state IN ('active', 'paused') AND id > %(after)s
ORDER BY id LIMIT %(limit)s;

-- name: some_tasks
SELECT * FROM tasks WHERE id = ANY(%(ids)s);

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
INSERT INTO requests (id, task_id, kind, body, created_by, created_at)
VALUES (%(id)s, %(task_id)s, %(kind)s, %(body)s, %(by)s, %(now)s)
ON CONFLICT (id) DO NOTHING;

-- name: get_request
SELECT * FROM requests WHERE id = %(id)s;

-- name: mark_sent
UPDATE requests SET sent_at = now() WHERE id = %(id)s AND sent_at IS NULL;

-- name: requests_not_sent
SELECT * FROM requests WHERE sent_at IS NULL AND created_at < %(before)s
ORDER BY created_at LIMIT %(limit)s;

-- name: tell
SELECT pg_notify(%(channel)s, %(news)s);
