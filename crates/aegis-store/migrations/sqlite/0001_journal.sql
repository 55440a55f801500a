-- The log. `leaf` holds the exact bytes that `hash` covers (RFC 6962 leaf hash); it is NULL once the event lies in
-- an archive segment. The other columns only repeat the leaf, for queries; verify compares them with it.
CREATE TABLE events (
    seq        INTEGER PRIMARY KEY,
    stream     TEXT    NOT NULL,
    stream_seq INTEGER NOT NULL,
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    trace_id   BLOB    NOT NULL,
    hash       BLOB    NOT NULL,
    leaf       BLOB
) STRICT;
CREATE UNIQUE INDEX events_stream ON events (stream, stream_seq);
CREATE INDEX events_trace ON events (trace_id);

-- One row: where the log stands. The last statement of each batch updates it.
CREATE TABLE journal_head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    next_seq INTEGER NOT NULL,
    frontier BLOB    NOT NULL,
    root     BLOB    NOT NULL,
    origin   TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,
    marker   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Nodes of the tree, 256 hashes wide (C2SP tlog-tiles): level 0 repeats leaf hashes, level n roots of 256^n leaves.
CREATE TABLE tiles (
    level  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB    NOT NULL,
    PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;

-- Signed notes over heads (C2SP tlog-checkpoint). Each was synced before it was signed.
CREATE TABLE checkpoints (
    number   INTEGER PRIMARY KEY,
    size     INTEGER NOT NULL,
    frontier BLOB    NOT NULL,
    note     TEXT    NOT NULL
) STRICT;
CREATE INDEX checkpoints_size ON checkpoints (size);

-- Events `first` to `next` - 1 lie as JSON Lines in `archive/FILE`.
CREATE TABLE segments (
    first INTEGER PRIMARY KEY,
    next  INTEGER NOT NULL,
    file  TEXT    NOT NULL
) STRICT;

-- Salt and bytes, sealed together under the stream's key of that copy (0 evidence, 1 working).
CREATE TABLE blobs (
    id     BLOB    PRIMARY KEY,
    stream TEXT    NOT NULL,
    copy   INTEGER NOT NULL,
    sealed BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_stream ON blobs (stream, copy);

-- Which key of keys.db seals a stream's blobs. `destroyed_at` is the tombstone of that key and its blobs.
CREATE TABLE stream_keys (
    stream       TEXT    NOT NULL,
    copy         INTEGER NOT NULL,
    key          INTEGER NOT NULL UNIQUE,
    destroyed_at INTEGER,
    PRIMARY KEY (stream, copy)
) STRICT, WITHOUT ROWID;

-- Answers to idempotency keys, for 24 hours.
CREATE TABLE idempotency (
    tenant  TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    request BLOB    NOT NULL,
    answer  TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at);
