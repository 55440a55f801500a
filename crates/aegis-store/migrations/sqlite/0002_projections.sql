-- Projections: what event leaves say now, one JSON record per entity. Query columns are computed from the record, so
-- they cannot disagree with it. All of it can be rebuilt from the log.
CREATE TABLE agents (
    id     TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    tenant TEXT GENERATED ALWAYS AS (record ->> '$.tenant') VIRTUAL,
    name   TEXT GENERATED ALWAYS AS (record ->> '$.name') VIRTUAL,
    state  TEXT GENERATED ALWAYS AS (record ->> '$.state') VIRTUAL
) STRICT, WITHOUT ROWID;
CREATE INDEX agents_name ON agents (tenant, name);

CREATE TABLE agent_versions (
    id       TEXT PRIMARY KEY,
    record   TEXT NOT NULL,
    agent    TEXT    GENERATED ALWAYS AS (record ->> '$.agent') VIRTUAL,
    deployed INTEGER GENERATED ALWAYS AS (record ->> '$.deployed_seq') VIRTUAL
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_versions_agent ON agent_versions (agent, deployed);

CREATE TABLE executions (
    id      TEXT PRIMARY KEY,
    record  TEXT NOT NULL,
    tenant  TEXT    GENERATED ALWAYS AS (record ->> '$.tenant') VIRTUAL,
    agent   TEXT    GENERATED ALWAYS AS (record ->> '$.agent') VIRTUAL,
    status  TEXT    GENERATED ALWAYS AS (record ->> '$.status') VIRTUAL,
    removed INTEGER GENERATED ALWAYS AS (record ->> '$.removed') VIRTUAL,
    created INTEGER GENERATED ALWAYS AS (record ->> '$.created_seq') VIRTUAL
) STRICT, WITHOUT ROWID;
CREATE INDEX executions_created ON executions (created);
CREATE INDEX executions_agent ON executions (agent, created);
CREATE INDEX executions_status ON executions (status, created);

CREATE TABLE iterations (
    id        TEXT PRIMARY KEY,
    record    TEXT NOT NULL,
    execution TEXT    GENERATED ALWAYS AS (record ->> '$.execution') VIRTUAL,
    number    INTEGER GENERATED ALWAYS AS (record ->> '$.number') VIRTUAL
) STRICT, WITHOUT ROWID;
CREATE INDEX iterations_execution ON iterations (execution, number);

CREATE TABLE volumes (
    id         TEXT PRIMARY KEY,
    record     TEXT NOT NULL,
    tenant     TEXT    GENERATED ALWAYS AS (record ->> '$.tenant') VIRTUAL,
    removed    INTEGER GENERATED ALWAYS AS (record ->> '$.removed') VIRTUAL,
    expires_at INTEGER GENERATED ALWAYS AS (record ->> '$.expires_at') VIRTUAL,
    created    INTEGER GENERATED ALWAYS AS (record ->> '$.created_seq') VIRTUAL
) STRICT, WITHOUT ROWID;
CREATE INDEX volumes_tenant ON volumes (tenant, created);
CREATE INDEX volumes_expiry ON volumes (expires_at) WHERE removed = 0;

-- What each model answer cost.
CREATE TABLE costs (
    id     TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    tenant TEXT    GENERATED ALWAYS AS (record ->> '$.tenant') VIRTUAL,
    at     INTEGER GENERATED ALWAYS AS (record ->> '$.at') VIRTUAL,
    micros INTEGER GENERATED ALWAYS AS (record ->> '$.micros') VIRTUAL
) STRICT, WITHOUT ROWID;
CREATE INDEX costs_tenant ON costs (tenant, at, micros);
