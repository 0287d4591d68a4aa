-- What lists show of a suite and of a run stands before the body, so that none has to read that; and how much there is of
-- runs and traces is counted as they come and go.
CREATE TABLE eval_suites_new (
    id      INTEGER NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL,
    author  TEXT    NOT NULL,
    head    TEXT    NOT NULL,
    body    TEXT    NOT NULL
) STRICT;
INSERT INTO eval_suites_new SELECT id, created, author, json_object(
    'name', body -> '$.name',
    'description', body -> '$.description',
    'tolerance', body -> '$.tolerance',
    'environments', json((SELECT json_group_array(key) FROM json_each(body, '$.environments'))),
    'testCases', json_array_length(body, '$.cases')), body FROM eval_suites;
DROP TABLE eval_suites;
ALTER TABLE eval_suites_new RENAME TO eval_suites;

CREATE TABLE eval_runs_new (
    seq         INTEGER NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    evaluation  INTEGER NOT NULL,
    environment TEXT,
    created     INTEGER NOT NULL,
    published   INTEGER, -- when it became what others are compared with
    head        TEXT    NOT NULL, -- the body without its cases
    body        TEXT    NOT NULL
) STRICT;
INSERT INTO eval_runs_new
    SELECT seq, id, evaluation, environment, created, published, json_remove(body, '$.cases'), body FROM eval_runs;
DROP TABLE eval_runs;
ALTER TABLE eval_runs_new RENAME TO eval_runs;
CREATE INDEX eval_runs_by_evaluation ON eval_runs (evaluation, seq);

-- Bytes of the runs of each suite.
CREATE TABLE eval_sums (
    evaluation INTEGER NOT NULL PRIMARY KEY,
    bytes      INTEGER NOT NULL
) STRICT;
INSERT INTO eval_sums SELECT evaluation, sum(octet_length(body)) FROM eval_runs GROUP BY evaluation;
CREATE TRIGGER eval_runs_grow AFTER INSERT ON eval_runs BEGIN
    INSERT INTO eval_sums (evaluation, bytes) VALUES (NEW.evaluation, octet_length(NEW.body))
    ON CONFLICT (evaluation) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER eval_runs_shrink AFTER DELETE ON eval_runs BEGIN
    UPDATE eval_sums SET bytes = bytes - octet_length(OLD.body) WHERE evaluation = OLD.evaluation;
    DELETE FROM eval_sums WHERE evaluation = OLD.evaluation AND bytes <= 0;
END;

-- Bytes of what traces bring; one row.
CREATE TABLE trace_sum (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO trace_sum SELECT 1, coalesce(sum(octet_length(metadata)), 0) FROM traces;
CREATE TRIGGER traces_grow AFTER INSERT ON traces WHEN NEW.metadata IS NOT NULL BEGIN
    UPDATE trace_sum SET bytes = bytes + octet_length(NEW.metadata);
END;
CREATE TRIGGER traces_shrink AFTER DELETE ON traces WHEN OLD.metadata IS NOT NULL BEGIN
    UPDATE trace_sum SET bytes = bytes - octet_length(OLD.metadata);
END;
