-- The workers that run, as each says of itself every 30 seconds.
CREATE TABLE workers (
    identity text PRIMARY KEY,
    role text NOT NULL CHECK (role IN ('all', 'scheduler', 'executor')),
    queues text[] NOT NULL, -- whose runs it executes
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL, -- by Postgres's clock
    clock_skew_ms double precision NOT NULL, -- its clock less Postgres's
    metrics_port int
);
