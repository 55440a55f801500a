-- The ids of requests that a session made: each once.
CREATE TABLE smcp_request (
    session TEXT NOT NULL,
    request BLOB NOT NULL CHECK (length(request) = 32),
    PRIMARY KEY (session, request)
) STRICT, WITHOUT ROWID;
