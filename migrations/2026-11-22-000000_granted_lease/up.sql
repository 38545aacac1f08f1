-- The lease in seconds that an executor was granted, and counts on, whatever is granted to others since. NULL: it began before this column was there.
-- Without a CHECK, for which all rows would be read while nobody else may.
ALTER TABLE attempts ADD COLUMN lease_seconds integer;
