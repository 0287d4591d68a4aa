-- Ids of suites of the API that were removed: none is given again, so that what was looked at, or approved, by its id is never
-- another suite. Each takes a few bytes, and a record of the log has told of it.
CREATE TABLE eval_removed (
    id INTEGER NOT NULL PRIMARY KEY
) STRICT;
