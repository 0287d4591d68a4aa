-- Keys: the secret itself is not here, only its keyed hash.
CREATE TABLE keys (
    id        TEXT    NOT NULL PRIMARY KEY,
    name      TEXT    NOT NULL,
    user      TEXT    NOT NULL,
    agent     TEXT,
    profile   TEXT    NOT NULL,
    roles     TEXT    NOT NULL, -- a JSON array
    plan      TEXT,
    hash      BLOB    NOT NULL UNIQUE,
    prefix    TEXT    NOT NULL,
    last4     TEXT    NOT NULL,
    created   INTEGER NOT NULL, -- moments are milliseconds since 1970
    expires   INTEGER,
    revoked   INTEGER,
    last_used INTEGER
) STRICT, WITHOUT ROWID;

-- Sessions that their clients deleted, until the session would have expired anyway.
CREATE TABLE ended_sessions (
    digest BLOB    NOT NULL PRIMARY KEY,
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ended_sessions_by_end ON ended_sessions (until);

-- Small things by kind and name: tool definitions last seen, and the like.
CREATE TABLE documents (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

-- The audit log. `entry` is the exact text that was hashed; hash = SHA-256(prev || entry).
-- The other columns repeat what the text says, for look-ups; verification compares them.
-- It has no index but its key: what every call would pay for is written a block at a time, below.
CREATE TABLE audit (
    seq        INTEGER NOT NULL PRIMARY KEY,
    id         TEXT    NOT NULL,
    phase      TEXT    NOT NULL,
    time       INTEGER NOT NULL,
    request_id TEXT    NOT NULL,
    key        TEXT,
    server     TEXT,
    tool       TEXT,
    decision   TEXT    NOT NULL,
    outcome    TEXT,
    intent     INTEGER, -- of an outcome: the seq of its intent, where it had one
    entry      TEXT    NOT NULL,
    prev       BLOB    NOT NULL,
    hash       BLOB    NOT NULL
) STRICT;

-- Of every full block of 256 entries, numbered from 0: which times it holds, and where each id is.
CREATE TABLE audit_spans (
    block    INTEGER NOT NULL PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
) STRICT;
CREATE TABLE audit_ids (
    id  TEXT    NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (id, seq)
) STRICT, WITHOUT ROWID;

-- Intents that still wait for their outcome: what a restart after a crash has to close.
CREATE TABLE audit_open (
    id  TEXT    NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- These stop accidents; what stops nobody but shows everything is the chain.
CREATE TRIGGER audit_never_updated BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_never_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- Written to find out whether anything can be written.
CREATE TABLE probe (
    slot  INTEGER NOT NULL PRIMARY KEY CHECK (slot = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO probe (slot, count) VALUES (1, 0);
