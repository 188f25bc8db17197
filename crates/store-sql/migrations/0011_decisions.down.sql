ALTER TABLE calls DROP COLUMN decision;
