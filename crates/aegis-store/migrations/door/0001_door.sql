-- Who may come in: API keys by the hash of what their holders present.
CREATE TABLE api_key (
    id         TEXT PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL CHECK (role IN ('operator', 'viewer', 'agent')),
    agent      TEXT    CHECK ((agent IS NOT NULL) = (role = 'agent')),
    hash       BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    last_used  INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_key_name ON api_key (tenant, name) WHERE revoked_at IS NULL;

-- What was said once may not be said again.
CREATE TABLE smcp_nonce (
    nonce   BLOB PRIMARY KEY CHECK (length(nonce) = 32),
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX smcp_nonce_seen ON smcp_nonce (seen_at);

-- Attested sessions: one per sandbox generation.
CREATE TABLE smcp_session (
    id         TEXT PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    execution  TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    public_key BLOB    NOT NULL CHECK (length(public_key) = 32),
    scope      TEXT,
    api_key    TEXT,
    opened_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER,
    UNIQUE (execution, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX smcp_session_expires ON smcp_session (expires_at);

-- What tool servers say of their tools, as accepted, and as they say it now if that differs.
CREATE TABLE server_pin (
    tenant   TEXT    NOT NULL,
    server   TEXT    NOT NULL,
    state    TEXT    NOT NULL CHECK (state IN ('accepted', 'held')),
    hash     BLOB    NOT NULL CHECK (length(hash) = 32),
    document TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, server, state)
) STRICT, WITHOUT ROWID;
