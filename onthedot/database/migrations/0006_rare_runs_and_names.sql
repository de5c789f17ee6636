-- Lists that would read a long log to find few rows, or sort all tasks. The rare runs have small
-- indexes: nearly all are by schedule and succeed.
CREATE INDEX runs_not_by_schedule ON runs (trigger, due_at, run_id) WHERE trigger <> 'schedule';
CREATE INDEX runs_not_succeeded_of_task ON runs (task_id, status, due_at, run_id)
    WHERE status <> 'succeeded';
CREATE INDEX tasks_by_name ON tasks (lower(name), id) WHERE state <> 'deleted';
