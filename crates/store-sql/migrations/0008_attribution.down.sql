DROP TABLE call_tags;
DROP INDEX calls_by_session;
DROP INDEX calls_by_end_user;
ALTER TABLE calls DROP COLUMN metadata;
ALTER TABLE calls DROP COLUMN session;
ALTER TABLE calls DROP COLUMN end_user;
