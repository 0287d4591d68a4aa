-- Suites that were made over the API; those of files stay files. `body` is the JSON as it was given.
CREATE TABLE eval_suites (
    id      INTEGER NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL,
    author  TEXT    NOT NULL,
    body    TEXT    NOT NULL
) STRICT;

-- Finished runs of suites, whole in `body`; the other columns are for look-ups.
CREATE TABLE eval_runs (
    seq         INTEGER NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    evaluation  INTEGER NOT NULL,
    environment TEXT,
    created     INTEGER NOT NULL,
    published   INTEGER, -- when it became what others are compared with
    body        TEXT    NOT NULL
) STRICT;
CREATE INDEX eval_runs_by_evaluation ON eval_runs (evaluation, seq);

-- Traces that clients bring. `metadata` is JSON.
CREATE TABLE traces (
    seq      INTEGER NOT NULL PRIMARY KEY,
    id       TEXT    NOT NULL UNIQUE,
    time     INTEGER NOT NULL,
    key      TEXT    NOT NULL,
    user     TEXT    NOT NULL,
    agent    TEXT    NOT NULL,
    request  TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    metadata TEXT
) STRICT;
CREATE INDEX traces_by_time ON traces (time);
