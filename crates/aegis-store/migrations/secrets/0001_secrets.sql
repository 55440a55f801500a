-- Secrets: sealed values by tenant, name and version. Each is sealed with where it lies, so that rows cannot be swapped.
CREATE TABLE secret (
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER,
    PRIMARY KEY (tenant, name, version)
) STRICT, WITHOUT ROWID;

-- The highest version that was ever given, so that none is given twice.
CREATE TABLE secret_last (
    tenant  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- Known bytes under the key, to tell a wrong key from a damaged row.
CREATE TABLE seal_check (
    id     INTEGER PRIMARY KEY CHECK (id = 0),
    sealed BLOB NOT NULL
) STRICT;
