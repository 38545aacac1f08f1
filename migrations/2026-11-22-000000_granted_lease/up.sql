-- The lease that an executor was granted, and counts on, whatever is granted to others since. NULL: it began before this column was there.
ALTER TABLE attempts ADD COLUMN lease_seconds integer CHECK (lease_seconds > 0);
