-- Types of entities, with the name that their key has outside.
CREATE TABLE types (
    id       INTEGER NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    key_name TEXT    NOT NULL,
    entities INTEGER NOT NULL,
    next     INTEGER NOT NULL -- what the next entity is numbered within its type
) STRICT;

-- What attributes the entities of a type have: how many hold a value of each kind.
CREATE TABLE attributes (
    id       INTEGER NOT NULL PRIMARY KEY,
    type     INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    strings  INTEGER NOT NULL,
    integers INTEGER NOT NULL,
    numbers  INTEGER NOT NULL,
    booleans INTEGER NOT NULL,
    lists    INTEGER NOT NULL,
    objects  INTEGER NOT NULL,
    UNIQUE (type, name)
) STRICT;

-- The id is the type's id times 2^40, and the number within the type: a type is a range of ids, here and in `texts`.
CREATE TABLE entities (
    id   INTEGER NOT NULL PRIMARY KEY,
    type INTEGER NOT NULL,
    key  TEXT    NOT NULL,
    body TEXT    NOT NULL -- the attributes but the key, a JSON object
) STRICT;
CREATE UNIQUE INDEX entities_by_key ON entities (type, key);

-- Every scalar of every attribute, long texts by their beginning: what filters and joins look up.
-- Letters are equal to their capitals here, so what is found is compared again.
CREATE TABLE attribute_values (
    attribute INTEGER NOT NULL,
    value     ANY     NOT NULL COLLATE NOCASE,
    entity    INTEGER NOT NULL,
    PRIMARY KEY (attribute, value, entity)
) STRICT, WITHOUT ROWID;

-- `type.attribute = target.target_attribute`; the key's name stands for the key.
CREATE TABLE relations (
    type             INTEGER NOT NULL,
    attribute        TEXT    NOT NULL,
    target           INTEGER NOT NULL,
    target_attribute TEXT    NOT NULL,
    declared         INTEGER NOT NULL, -- 1 where somebody said so, 0 where names and values do
    PRIMARY KEY (type, attribute, target, target_attribute)
) STRICT, WITHOUT ROWID;

-- The words of every entity, as this program cuts them: once each, in lower case, of letters and digits alone.
CREATE VIRTUAL TABLE texts USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii'
);
