DROP TABLE audit;
ALTER TABLE config_state DROP COLUMN audited;
