-- Tokens that keys were exchanged for. A grant is one access token and the refresh token that renews both; neither is
-- here, only keyed hashes. It ends with the key whose hash it names.
CREATE TABLE grants (
    id           TEXT    NOT NULL PRIMARY KEY,
    key_hash     BLOB    NOT NULL,
    service      INTEGER NOT NULL,
    handle       TEXT    NOT NULL UNIQUE, -- the part of the refresh token that finds the grant
    access       BLOB    NOT NULL UNIQUE,
    access_ends  INTEGER NOT NULL,
    refresh      BLOB    NOT NULL,
    refresh_ends INTEGER NOT NULL,
    created      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Policies made over the API, every version of each. The latest counts; one without a text was removed.
CREATE TABLE policies (
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    text    TEXT,
    time    INTEGER NOT NULL,
    key     TEXT    NOT NULL, -- the id of the key that made the change
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
