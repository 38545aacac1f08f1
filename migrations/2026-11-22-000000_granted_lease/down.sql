ALTER TABLE attempts DROP COLUMN lease_seconds;
