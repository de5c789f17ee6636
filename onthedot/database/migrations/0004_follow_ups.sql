-- Runs that another task's run starts; limits and follow-ups are found without reading all tasks.

-- NOT VALID: more is allowed than before, so there is nothing in the log to look at.
ALTER TABLE runs DROP CONSTRAINT runs_trigger_check;
ALTER TABLE runs ADD CONSTRAINT runs_trigger_check
    CHECK (trigger IN ('schedule', 'manual', 'backfill', 'catch_up', 'follow_up')) NOT VALID;

CREATE INDEX tasks_with_limits ON tasks (id)
    WHERE state <> 'deleted' AND spec #> '{policies,limits}' <> '{}';
