-- Named lists of days on which tasks that name them are not due. Each task's spec has a copy of the
-- days, so that due times need no database; a change of a calendar is a change of those tasks.

CREATE TABLE calendars (
    name text PRIMARY KEY,
    title text NOT NULL,
    days jsonb NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL
);

CREATE INDEX tasks_with_calendars ON tasks (id)
    WHERE spec #> '{schedule,exclude,calendars}' <> '[]' AND state <> 'deleted';
