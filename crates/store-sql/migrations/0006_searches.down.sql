DROP INDEX calls_by_error;
DROP INDEX calls_by_status;
DROP INDEX usage_hours_by_model;
DROP INDEX usage_hours_by_team;
DROP INDEX usage_hours_by_key;
