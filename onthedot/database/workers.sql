-- The workers that run. When they were seen is told by one clock, that of Postgres.

-- name: keep
INSERT INTO workers (
    identity, role, queues, version, started_at, seen_at, clock_skew_ms, metrics_port)
VALUES (
    %(identity)s, %(role)s, %(queues)s, %(version)s, %(started_at)s, now(), %(clock_skew_ms)s,
    %(metrics_port)s)
ON CONFLICT (identity) DO UPDATE SET
    role = excluded.role, queues = excluded.queues, version = excluded.version,
    started_at = excluded.started_at, seen_at = excluded.seen_at,
    clock_skew_ms = excluded.clock_skew_ms, metrics_port = excluded.metrics_port;

-- name: seen
SELECT <worker> FROM workers WHERE seen_at > now() - %(within)s ORDER BY identity;

-- name: forget
DELETE FROM workers WHERE identity = %(identity)s;

-- name: forget_old
DELETE FROM workers WHERE seen_at < now() - %(age)s;
