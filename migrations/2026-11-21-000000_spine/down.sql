DROP TABLE leases, idempotency_keys, execution_events, log_segments, attempts, executions, workflows, api_keys, tenants;
DROP FUNCTION refuse_to_leave_a_terminal_state;
