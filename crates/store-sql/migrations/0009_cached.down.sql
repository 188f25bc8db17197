DROP INDEX calls_by_cached;
ALTER TABLE calls DROP COLUMN saved;
ALTER TABLE calls DROP COLUMN cached;
