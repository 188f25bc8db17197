-- What the last lease was granted, so that one statement takes and tells.
ALTER TABLE quotas ADD COLUMN granted BIGINT NOT NULL DEFAULT 0;
