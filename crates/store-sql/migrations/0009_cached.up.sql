-- How the cache answered a call, where it did, and the tokens of the answer, which nobody paid again.
ALTER TABLE calls ADD COLUMN cached TEXT;
ALTER TABLE calls ADD COLUMN saved TEXT;
CREATE INDEX calls_by_cached ON calls (started) WHERE cached IS NOT NULL;
