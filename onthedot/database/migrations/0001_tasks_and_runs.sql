-- The desired state (tasks, requests), the log (runs), who may come in, and what was answered.

CREATE TABLE tasks (
    id text PRIMARY KEY,
    name text NOT NULL,
    spec jsonb NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    state text NOT NULL CHECK (state IN ('active', 'paused', 'finished', 'deleted')),
    version bigint NOT NULL DEFAULT 1,
    engine_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    -- a projection for lists, set at registration and then by the recorder alone
    next_due_at timestamptz,
    last_run_at timestamptz,
    last_status text,
    run_count bigint NOT NULL DEFAULT 0,
    failure_count bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);

CREATE INDEX tasks_by_next_due ON tasks (next_due_at, id) WHERE state <> 'deleted';
CREATE INDEX tasks_by_created ON tasks (created_at, id) WHERE state <> 'deleted';
CREATE INDEX tasks_by_tag ON tasks USING gin (tags) WHERE state <> 'deleted';
CREATE INDEX tasks_not_in_step ON tasks (updated_at) WHERE engine_version < version;

-- What people asked of a task besides changing it: trigger, backfill, cancel. Its id is the id of
-- the Update that carries it to the workflow, which makes it happen once.
CREATE TABLE requests (
    id text PRIMARY KEY,
    task_id text NOT NULL REFERENCES tasks (id),
    kind text NOT NULL CHECK (kind IN ('trigger', 'backfill', 'cancel')),
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    sent_at timestamptz
);

CREATE INDEX requests_not_sent ON requests (created_at) WHERE sent_at IS NULL;
CREATE INDEX requests_by_task ON requests (task_id, created_at);

-- The answer that each Idempotency-Key got.
CREATE TABLE idempotency_keys (
    key text PRIMARY KEY,
    fingerprint text NOT NULL,
    subject text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE FUNCTION run_rank(status text) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE status WHEN 'waiting' THEN 0 WHEN 'running' THEN 1 ELSE 2 END
$$;

-- The log. Rows are inserted or moved forward (waiting, running, final), never back.
CREATE TABLE runs (
    run_id text NOT NULL,
    task_id text NOT NULL,
    task_version bigint NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('schedule', 'manual', 'backfill', 'catch_up')),
    due_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    lag_ms double precision GENERATED ALWAYS AS (extract(epoch FROM started_at - due_at) * 1000) STORED,
    status text NOT NULL CHECK (status IN (
        'waiting', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'missed')),
    reason text,
    attempt_count int NOT NULL DEFAULT 0,
    worker text,
    output text,
    output_size bigint,
    error text,
    result jsonb
) PARTITION BY RANGE (due_at);

CREATE UNIQUE INDEX runs_once ON runs (due_at, run_id);
CREATE INDEX runs_by_task ON runs (task_id, due_at, run_id);
CREATE INDEX runs_not_succeeded ON runs (status, due_at, run_id) WHERE status <> 'succeeded';

-- One row a try.
CREATE TABLE attempts (
    due_at timestamptz NOT NULL,
    run_id text NOT NULL,
    number int NOT NULL,
    status text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    worker text NOT NULL,
    error text,
    PRIMARY KEY (due_at, run_id, number)
) PARTITION BY RANGE (due_at);

-- Output beyond the head and tail, in chunks, while the run goes on and afterwards.
CREATE TABLE run_output (
    due_at timestamptz NOT NULL,
    run_id text NOT NULL,
    attempt int NOT NULL,
    position bigint NOT NULL,
    chunk text NOT NULL,
    PRIMARY KEY (due_at, run_id, attempt, position)
) PARTITION BY RANGE (due_at);

-- Makes the partitions of the month that a due time lies in, where they are missing.
CREATE FUNCTION make_month(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    past timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    suffix text := to_char(moment AT TIME ZONE 'UTC', 'YYYY_MM');
    parent text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('onthedot make_month'));
    FOREACH parent IN ARRAY ARRAY['runs', 'attempts', 'run_output'] LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                       parent || '_' || suffix, parent, first, past);
    END LOOP;
END
$$;

-- Keys and sessions are stored as SHA-256 of what the client holds.
CREATE TABLE api_keys (
    hash bytea PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sign_in_links (
    hash bytea PRIMARY KEY,
    principal text NOT NULL,
    role text NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE TABLE sessions (
    hash bytea PRIMARY KEY,
    principal text NOT NULL,
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

-- Drops the partitions of a month, named by its suffix (2026_11).
CREATE FUNCTION drop_month(suffix text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['runs', 'attempts', 'run_output'] LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', parent || '_' || suffix);
    END LOOP;
END
$$;
