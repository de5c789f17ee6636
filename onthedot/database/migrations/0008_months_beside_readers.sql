-- A month is made while others read and write the log, and neither making nor dropping one waits for
-- a lock for long: all who come after it would wait behind it. Who asked tries again.

-- A table that is attached needs no lock that keeps others out, as one does that is made in its place.
CREATE OR REPLACE FUNCTION make_month(moment timestamptz) RETURNS void LANGUAGE plpgsql
SET lock_timeout = '500ms' AS $$
DECLARE
    first timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    past timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    suffix text := to_char(moment AT TIME ZONE 'UTC', 'YYYY_MM');
    parent text;
    part text;
BEGIN
    -- Most ask for a month that is there: they need not wait for each other.
    IF (SELECT count(*) = 3 FROM pg_inherits
        WHERE inhrelid IN (to_regclass('runs_' || suffix), to_regclass('attempts_' || suffix),
                           to_regclass('run_output_' || suffix))) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('onthedot make_month'));
    FOREACH parent IN ARRAY ARRAY['runs', 'attempts', 'run_output'] LOOP
        part := parent || '_' || suffix;
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I (LIKE %I INCLUDING ALL)', part, parent);
        IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = part::regclass) THEN
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           parent, part, first, past);
        END IF;
    END LOOP;
END
$$;

ALTER FUNCTION drop_month(text) SET lock_timeout = '500ms';
