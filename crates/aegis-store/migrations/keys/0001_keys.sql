-- Data keys, each sealed under the node key. Made ahead of use, so that a new stream waits for no second sync.
CREATE TABLE keys (
    id     INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;
