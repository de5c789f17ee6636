-- Which claim a run that is at most once was taken by: one that a worker made, and gave up before the
-- run began, is passed on to the next.
ALTER TABLE runs ADD COLUMN claim text;
