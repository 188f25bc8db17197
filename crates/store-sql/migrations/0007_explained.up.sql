-- Who was passed over by a call and why, and when each attempt of it began.
ALTER TABLE calls ADD COLUMN passed_over TEXT;
ALTER TABLE attempts ADD COLUMN started BIGINT NOT NULL DEFAULT 0;
