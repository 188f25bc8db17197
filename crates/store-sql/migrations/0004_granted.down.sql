ALTER TABLE quotas DROP COLUMN granted;
