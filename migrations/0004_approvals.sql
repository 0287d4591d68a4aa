-- Calls that a person has to approve. What nobody looks for stands in `facts`, a JSON object.
CREATE TABLE approvals (
    id           TEXT    NOT NULL PRIMARY KEY, -- ordered by the time it was made
    call         TEXT    NOT NULL, -- digest of principal, tool, arguments and who may approve: exactly this call
    state        TEXT    NOT NULL,
    key          TEXT    NOT NULL, -- whose call it is
    user         TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    expires      INTEGER NOT NULL,
    facts        TEXT    NOT NULL,
    arguments    BLOB, -- sealed; absent where they are too long to keep
    decided      INTEGER,
    decided_key  TEXT,
    decided_user TEXT,
    comment      TEXT,
    used         INTEGER,
    used_event   TEXT, -- the audit record of the call that it let go
    finished     INTEGER,
    outcome      TEXT
) STRICT;
CREATE UNIQUE INDEX approvals_pending ON approvals (call) WHERE state = 'pending';
CREATE INDEX approvals_by_call ON approvals (call, state);
CREATE INDEX approvals_by_state ON approvals (state, expires);
