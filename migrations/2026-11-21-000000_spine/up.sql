-- The truth. Every write to a state is conditional on (id, state, attempt); see shared/backend/src/store.

CREATE TABLE tenants (
    name           text PRIMARY KEY,
    weight         integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100),
    max_concurrent integer CHECK (max_concurrent >= 0),
    max_queued     bigint CHECK (max_queued >= 0),
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id         uuid PRIMARY KEY,
    tenant     text NOT NULL REFERENCES tenants (name),
    role       text NOT NULL CHECK (role IN ('submit', 'read', 'admin')),
    -- The first characters of the key, for people to tell keys apart.
    prefix     text NOT NULL,
    -- SHA-256 of the whole key.
    hash       bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE workflows (
    tenant     text NOT NULL REFERENCES tenants (name),
    name       text NOT NULL,
    version    integer NOT NULL CHECK (version >= 1),
    -- SHA-256 of the canonical definition, which is also in the META bucket.
    digest     bytea NOT NULL,
    definition text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name, version)
);

-- No foreign keys from here on: these tables take every submission, and their tenant comes from a checked key.
CREATE TABLE executions (
    tenant              text NOT NULL,
    id                  uuid NOT NULL,
    state               text NOT NULL CHECK (state IN ('scheduled', 'queued', 'launching', 'running',
                                                       'succeeded', 'failed', 'timed_out', 'cancelled')),
    priority            smallint NOT NULL,
    attempt             integer NOT NULL DEFAULT 0,
    max_attempts        integer NOT NULL,
    -- Believed to be in its Redis stream. A belief: the relay repairs it.
    enqueued            boolean NOT NULL,
    workflow            text,
    version             integer,
    -- The definition itself, when it came with the submission.
    spec                text,
    -- The bytes that were submitted; NULL when they are an object (input_bytes tells).
    input               text,
    input_bytes         bigint NOT NULL,
    timeout_seconds     integer NOT NULL,
    labels              jsonb,
    traceparent         text,
    retry_of            uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    run_at              timestamptz,
    queued_at           timestamptz,
    queue_deadline      timestamptz,
    started_at          timestamptz,
    finished_at         timestamptz,
    cancel_requested_at timestamptz,
    reason_code         text,
    reason_message      text,
    result              text,
    result_bytes        bigint,
    PRIMARY KEY (tenant, id)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- One of these two holds a queued row: it is in its stream, or it waits for the relay.
CREATE INDEX executions_enqueued ON executions (tenant, priority, queued_at, id) WHERE state = 'queued' AND enqueued;
CREATE INDEX executions_waiting ON executions (tenant, priority, queued_at, id) WHERE state = 'queued' AND NOT enqueued;
CREATE INDEX executions_scheduled ON executions (run_at) WHERE state = 'scheduled';
-- What a tenant's quota is counted from, beside the queued rows.
CREATE INDEX executions_scheduled_of_tenant ON executions (tenant) WHERE state = 'scheduled';
CREATE INDEX executions_queue_deadline ON executions (queue_deadline)
    WHERE queue_deadline IS NOT NULL AND state IN ('scheduled', 'queued');
CREATE INDEX executions_labels ON executions USING gin (labels jsonb_path_ops) WHERE labels IS NOT NULL;
CREATE INDEX executions_finished ON executions (finished_at) WHERE finished_at IS NOT NULL;

CREATE FUNCTION refuse_to_leave_a_terminal_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'execution % is %: a terminal state is never left', OLD.id, OLD.state USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER executions_terminal_is_terminal BEFORE UPDATE ON executions FOR EACH ROW
    WHEN (OLD.state IN ('succeeded', 'failed', 'timed_out', 'cancelled') AND NEW.state IS DISTINCT FROM OLD.state)
    EXECUTE FUNCTION refuse_to_leave_a_terminal_state();

CREATE TABLE attempts (
    execution_id            uuid NOT NULL,
    attempt                 integer NOT NULL CHECK (attempt >= 1),
    tenant                  text NOT NULL,
    -- SHA-256 of the credential that is good for one start, and of the session token that the start exchanged it for.
    launch_hash             bytea,
    session_hash            bytea,
    -- The worker that claimed or took over the launch.
    worker                  text NOT NULL,
    claimed_at              timestamptz NOT NULL DEFAULT now(),
    -- Until then nobody else launches it; meaningless once launched.
    launch_lease_expires_at timestamptz NOT NULL,
    launched_at             timestamptz,
    start_deadline          timestamptz NOT NULL,
    started_at              timestamptz,
    lease_expires_at        timestamptz,
    run_deadline            timestamptz,
    -- Somebody reads the log along until then.
    followed_until          timestamptz,
    finished_at             timestamptz,
    -- The berth is given back when the launcher saw the attempt's process or pod end.
    released_at             timestamptz,
    outcome                 text CHECK (outcome IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost')),
    reason_code             text,
    reason_message          text,
    -- JSON as the executor reported it.
    steps                   text,
    artifacts               text,
    PRIMARY KEY (execution_id, attempt)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);

-- The live attempts: what the cap is checked against, and what the supervisor watches.
CREATE INDEX attempts_berths ON attempts (tenant, execution_id, attempt) WHERE released_at IS NULL;

CREATE TABLE log_segments (
    execution_id uuid NOT NULL,
    attempt      integer NOT NULL,
    seq          integer NOT NULL,
    size_bytes   bigint NOT NULL,
    lines        integer NOT NULL,
    PRIMARY KEY (execution_id, attempt, seq)
);

CREATE TABLE execution_events (
    execution_id uuid NOT NULL,
    id           bigint GENERATED ALWAYS AS IDENTITY,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind         text NOT NULL,
    attempt      integer NOT NULL,
    detail       text,
    PRIMARY KEY (execution_id, id)
);

CREATE TABLE idempotency_keys (
    tenant        text NOT NULL,
    key           text NOT NULL,
    -- SHA-256 of the request's body.
    fingerprint   bytea NOT NULL,
    execution_ids uuid[] NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys USING brin (created_at);

CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    expires_at timestamptz NOT NULL
);
