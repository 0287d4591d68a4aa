-- Which records name which as their parent. Few have one.
CREATE TABLE audit_children (
    parent TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (parent, seq)
) STRICT, WITHOUT ROWID;

-- What the audit log comes to, by minute and by hour: derived from it, entry by entry, up to `rollup_place`.
CREATE TABLE rollups (
    span      INTEGER NOT NULL, -- milliseconds: a minute or an hour
    start     INTEGER NOT NULL, -- the first moment of the bucket
    server    TEXT    NOT NULL,
    tool      TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    decision  TEXT    NOT NULL,
    rule      TEXT    NOT NULL, -- of refusals: what refused; empty else
    calls     INTEGER NOT NULL,
    errors    INTEGER NOT NULL,
    refused   INTEGER NOT NULL,
    limited   INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    cached    INTEGER NOT NULL,
    latencies BLOB    NOT NULL, -- a histogram; see `domain::sketch`
    PRIMARY KEY (span, start, server, tool, key, decision, rule)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_place (
    slot INTEGER NOT NULL PRIMARY KEY CHECK (slot = 1),
    seq  INTEGER NOT NULL -- the last entry that is counted
) STRICT;
INSERT INTO rollup_place (slot, seq) VALUES (1, 0);

-- When breakers opened and closed: the latest of it.
CREATE TABLE breaker_changes (
    number INTEGER NOT NULL PRIMARY KEY,
    time   INTEGER NOT NULL,
    server TEXT    NOT NULL,
    state  TEXT    NOT NULL,
    why    TEXT    NOT NULL
) STRICT;
