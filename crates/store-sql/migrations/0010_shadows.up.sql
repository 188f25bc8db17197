-- The call that a call is the shadow of.
ALTER TABLE calls ADD COLUMN shadow_of TEXT;
CREATE INDEX calls_of_shadows ON calls (started) WHERE shadow_of IS NOT NULL;
