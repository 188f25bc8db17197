-- One text for SQLite and PostgreSQL: BIGINT and TEXT only, times in microseconds since 1970, yes and no as 1 and 0.

CREATE TABLE config_state (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL,
    last_id BIGINT NOT NULL
);
INSERT INTO config_state (one, version, last_id) VALUES (1, 0, 0);

CREATE TABLE documents (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    id BIGINT NOT NULL,
    body TEXT NOT NULL,
    version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE UNIQUE INDEX documents_by_id ON documents (kind, id);

CREATE TABLE versions (
    version BIGINT PRIMARY KEY,
    written BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    changes BIGINT NOT NULL
);

-- The documents before and after, as JSON.
CREATE TABLE changes (
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    was TEXT,
    became TEXT,
    PRIMARY KEY (version, kind, name)
);

CREATE TABLE notes (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE calls (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    started BIGINT NOT NULL,
    duration BIGINT NOT NULL,
    first_event BIGINT,
    endpoint TEXT NOT NULL,
    key_name TEXT NOT NULL,
    team TEXT NOT NULL,
    model TEXT NOT NULL,
    label TEXT NOT NULL,
    provider TEXT NOT NULL,
    credential TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    client TEXT NOT NULL,
    stream BIGINT NOT NULL,
    status BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    state TEXT NOT NULL,
    -- Tokens by tier, as JSON.
    tokens TEXT NOT NULL,
    cost BIGINT NOT NULL,
    price TEXT,
    losses TEXT,
    tags TEXT
);
CREATE INDEX calls_by_time ON calls (started, id);
CREATE INDEX calls_by_request ON calls (request_id);
CREATE INDEX calls_by_key ON calls (key_name, started);

CREATE TABLE attempts (
    call_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    provider TEXT NOT NULL,
    credential TEXT NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status BIGINT NOT NULL,
    duration BIGINT NOT NULL,
    state TEXT NOT NULL,
    tokens TEXT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (call_id, number)
);

CREATE TABLE usage_hours (
    hour BIGINT NOT NULL,
    key_name TEXT NOT NULL,
    team TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    calls BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (hour, key_name, team, model, provider)
);

CREATE TABLE quotas (
    name TEXT NOT NULL,
    began BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    PRIMARY KEY (name, began)
);
CREATE INDEX quotas_by_end ON quotas (ends);

CREATE TABLE kept_answers (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    body TEXT NOT NULL,
    kept_until BIGINT NOT NULL
);
CREATE INDEX kept_answers_by_end ON kept_answers (kept_until);
