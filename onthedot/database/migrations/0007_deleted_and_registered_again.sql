-- Whether a row of the log gives way to one of a later version of its task: it says that the task
-- was deleted before the run could start, and the task was registered again before it was due.
CREATE FUNCTION gives_way(kept runs, version bigint) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT kept.status = 'cancelled' AND kept.started_at IS NULL
       AND kept.reason = 'the task was deleted' AND kept.task_version < version
$$;
