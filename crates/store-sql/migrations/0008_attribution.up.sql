-- What callers say of their calls.
ALTER TABLE calls ADD COLUMN end_user TEXT;
ALTER TABLE calls ADD COLUMN session TEXT;
ALTER TABLE calls ADD COLUMN metadata TEXT;
CREATE INDEX calls_by_end_user ON calls (end_user, started) WHERE end_user IS NOT NULL;
CREATE INDEX calls_by_session ON calls (session, started) WHERE session IS NOT NULL;

-- A row for each tag of a call, from here on. `tagged` is when the call began.
CREATE TABLE call_tags (
    tag TEXT NOT NULL,
    tagged BIGINT NOT NULL,
    call_id TEXT NOT NULL,
    PRIMARY KEY (tag, tagged, call_id)
);
CREATE INDEX call_tags_by_call ON call_tags (call_id);
