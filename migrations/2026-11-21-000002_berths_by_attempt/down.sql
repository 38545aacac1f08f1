CREATE INDEX attempts_berths ON attempts (tenant, execution_id, attempt) WHERE released_at IS NULL;
DROP INDEX attempts_live;
