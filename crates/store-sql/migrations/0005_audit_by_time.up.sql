-- Who looks for a time, and who forgets what is old, does not read all of it.
CREATE INDEX audit_by_time ON audit (happened);
