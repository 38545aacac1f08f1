-- Which installation this database is: what it launches in a cluster carries this id, so that installations that share a namespace leave each
-- other's Jobs alone.
CREATE TABLE installation (
    id      uuid NOT NULL DEFAULT gen_random_uuid(),
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only)
);
INSERT INTO installation DEFAULT VALUES;
