-- Calendars, and the tasks that name them.

-- name: insert_calendar
INSERT INTO calendars (name, title, days, created_at, created_by, updated_at, updated_by)
VALUES (%(name)s, %(title)s, %(days)s, %(now)s, %(by)s, %(now)s, %(by)s)
ON CONFLICT (name) DO NOTHING
RETURNING <calendar>;

-- name: get_calendar
SELECT <calendar> FROM calendars WHERE name = %(name)s;

-- name: lock_calendar
SELECT <calendar> FROM calendars WHERE name = %(name)s FOR UPDATE;

-- name: list_calendars
SELECT <calendar> FROM calendars WHERE name > %(after)s ORDER BY name LIMIT %(limit)s;

-- name: some_calendars
SELECT <calendar> FROM calendars WHERE name = ANY(%(names)s);

-- name: hold_calendars
SELECT <calendar> FROM calendars WHERE name = ANY(%(names)s) ORDER BY name FOR SHARE;

-- name: known_names
SELECT name FROM calendars ORDER BY name LIMIT 20;

-- name: change_calendar
UPDATE calendars SET
    title = %(title)s, days = %(days)s, version = version + 1,
    updated_at = %(now)s, updated_by = %(by)s
WHERE name = %(name)s
RETURNING <calendar>;

-- name: delete_calendar
DELETE FROM calendars WHERE name = %(name)s;

-- name: tasks_with_calendar
SELECT <task> FROM tasks
WHERE spec #> '{schedule,exclude,calendars}' <> '[]' AND state <> 'deleted'
    AND spec #> '{schedule,exclude,calendars}' ? %(name)s
ORDER BY id;

-- name: lock_tasks_with_calendar
SELECT <task> FROM tasks
WHERE spec #> '{schedule,exclude,calendars}' <> '[]' AND state <> 'deleted'
    AND spec #> '{schedule,exclude,calendars}' ? %(name)s
ORDER BY id FOR UPDATE;

-- name: count_tasks
SELECT named.name, count(*) AS tasks
FROM tasks, jsonb_array_elements_text(spec #> '{schedule,exclude,calendars}') AS named (name)
WHERE spec #> '{schedule,exclude,calendars}' <> '[]' AND state <> 'deleted'
    AND named.name = ANY(%(names)s)
GROUP BY named.name;

-- name: change_tasks
WITH changed AS (
    UPDATE tasks SET
        spec = wanted.spec, state = wanted.state, next_due_at = wanted.next_due_at,
        version = version + 1, updated_by = %(by)s,
        updated_at = greatest(%(now)s, updated_at + interval '1 microsecond')
    FROM unnest(%(ids)s::text[], %(specs)s::jsonb[], %(states)s::text[], %(due)s::timestamptz[])
        AS wanted (id, spec, state, next_due_at)
    WHERE tasks.id = wanted.id
    RETURNING tasks.*
), remembered AS (
    INSERT INTO task_versions (task_id, version, spec, state, what, at, by, reason)
    SELECT id, version, spec, state, 'revised', updated_at, updated_by, %(reason)s FROM changed
)
SELECT id, version, updated_at FROM changed;

-- name: tell_of_tasks
SELECT pg_notify(%(channel)s, news) FROM unnest(%(news)s::text[]) AS news;
