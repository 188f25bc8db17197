ALTER TABLE attempts DROP COLUMN started;
ALTER TABLE calls DROP COLUMN passed_over;
