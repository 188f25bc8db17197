DROP INDEX calls_of_shadows;
ALTER TABLE calls DROP COLUMN shadow_of;
