-- Sums of hours by several things, and the few calls among many that went wrong.
CREATE INDEX usage_hours_by_key ON usage_hours (key_name, hour);
CREATE INDEX usage_hours_by_team ON usage_hours (team, hour);
CREATE INDEX usage_hours_by_model ON usage_hours (model, hour);
CREATE INDEX calls_by_status ON calls (status, team, started) WHERE status <> 200;
CREATE INDEX calls_by_error ON calls (team, started) WHERE error IS NOT NULL;
