-- Who did what. Numbers are handed out by the one row of config_state, so that they have no gaps.

ALTER TABLE config_state ADD COLUMN audited BIGINT NOT NULL DEFAULT 0;

CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    happened BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    subject TEXT NOT NULL,
    version BIGINT
);
