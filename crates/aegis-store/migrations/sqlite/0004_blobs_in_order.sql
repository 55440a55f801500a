-- Blobs in the order in which they came: their ids are random, and a table sorted by them wrote a page for each.
ALTER TABLE blobs RENAME TO blobs_by_id;
DROP INDEX blobs_stream;
CREATE TABLE blobs (
    number INTEGER PRIMARY KEY,
    id     BLOB    NOT NULL,
    stream TEXT    NOT NULL,
    copy   INTEGER NOT NULL,
    sealed BLOB    NOT NULL
) STRICT;
INSERT INTO blobs (id, stream, copy, sealed) SELECT id, stream, copy, sealed FROM blobs_by_id;
DROP TABLE blobs_by_id;
CREATE UNIQUE INDEX blobs_stream ON blobs (stream, copy, id);
