-- Berths are given back by attempt, and counted by tenant. With the tenant first, giving one back read the whole index: as many pages as there were
-- live attempts.
CREATE INDEX attempts_live ON attempts (execution_id, attempt) INCLUDE (tenant) WHERE released_at IS NULL;
DROP INDEX attempts_berths;
