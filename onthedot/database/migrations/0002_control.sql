-- Control over a task: pauses with a reason and an end, each change kept, what a run was asked with.

ALTER TABLE tasks
    -- of a paused task
    ADD COLUMN pause_reason text,
    ADD COLUMN paused_until timestamptz,
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_by text,
    -- what the workflow is told with the last change of the state, kept until it has taken it
    ADD COLUMN catch_up jsonb,
    ADD COLUMN let_finish boolean NOT NULL DEFAULT false;

UPDATE tasks SET paused_at = updated_at, paused_by = updated_by WHERE state = 'paused';

-- What each change has made of a task; written by the statement that makes the change. It goes on
-- when a deleted task's id is used again.
CREATE TABLE task_versions (
    task_id text NOT NULL,
    version bigint NOT NULL,
    spec jsonb NOT NULL,
    state text NOT NULL,
    what text NOT NULL CHECK (what IN (
        'registered', 'revised', 'paused', 'resumed', 'deleted', 'restored')),
    at timestamptz NOT NULL,
    by text NOT NULL,
    reason text,
    PRIMARY KEY (task_id, version)
);

-- Of tasks from before, the version that is in force.
INSERT INTO task_versions (task_id, version, spec, state, what, at, by)
SELECT id, version, spec, state, CASE
           WHEN version = 1 THEN 'registered'
           WHEN state = 'paused' THEN 'paused'
           WHEN state = 'deleted' THEN 'deleted'
           ELSE 'revised' END,
       updated_at, updated_by
FROM tasks;

-- Of a run that was asked for: by whom, and with which arguments, so that it can be repeated.
ALTER TABLE runs
    ADD COLUMN asked_by text,
    ADD COLUMN arguments jsonb;

ALTER TABLE requests ADD COLUMN reason text;
CREATE INDEX requests_by_age ON requests (created_at);

-- Why a task has paused itself.
CREATE FUNCTION failed_in_a_row(spec jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN failures IN ('1', 'true') THEN 'a run failed'
                ELSE failures || ' runs in a row failed' END
    FROM (SELECT coalesce(spec -> 'policies' ->> 'pause_on_failure', '1') AS failures) AS policy
$$;
