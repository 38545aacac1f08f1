DROP INDEX attempts_berths;
CREATE INDEX attempts_berths ON attempts (tenant, execution_id, attempt) WHERE released_at IS NULL;
