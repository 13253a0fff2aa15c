"""A history of very many made-up backups, put into its tables by SQL."""

from __future__ import annotations

from backup_service.history import History
from backup_service.history.query import KeyState, State
from shared.database import Pool


def insert(history: History, pool: Pool, count: int, seed: int) -> None:
    """Put ``count`` made-up backups into the tables at once; ``seed`` chooses them."""
    with pool.connection() as conn:
        for table in history.TABLES:
            conn.execute(f"DROP TABLE backup.{table}".encode())
        conn.execute(history.tables(history.SCHEMA))
        conn.execute("SELECT setseed(%s)", (seed / 100,))
        conn.execute(SYNTHETIC.encode(), (count,))
        conn.execute(history.tables(history.INDEXES))
        conn.execute("ANALYZE backup.backups; ANALYZE backup.backup_documents")


STATES = ", ".join(f"'{state}'" for state in State)
KEY_STATES = ", ".join(f"'{state}'" for state in KeyState)
# A document has what the filters and the sorts read, and the bulk of a real one.
SYNTHETIC = f"""
WITH made AS MATERIALIZED (
    SELECT n, gen_random_uuid() AS backup_id,
        timestamptz '2026-01-01Z' + n * interval '300 days' / greatest(count(*) OVER (), 1) AS at,
        (ARRAY['operator', 'schedule', 'issuer:ci', 'anna'])[1 + floor(random() * 4)] AS who,
        (ARRAY[{STATES}])[1 + floor(random() * 7)] AS state,
        (ARRAY[{KEY_STATES}])[1 + floor(random() * 6)] AS key_state,
        (ARRAY['Quarterly audit', 'before the upgrade to 100%% new disks', 'by hand'])[
            1 + floor(random() * 3)] AS reason,
        CASE WHEN random() < 0.8 THEN floor(random() * 1000000)::bigint END AS log_offset,
        CASE WHEN random() < 0.8 THEN floor(random() * 50)::bigint END AS size_bytes,
        CASE WHEN random() < 0.8 THEN floor(random() * 100) / 4 END AS duration_s,
        CASE WHEN random() < 0.5 THEN random() < 0.9 END AS intact,
        CASE WHEN random() < 0.5 THEN floor(random() * 20)::int END AS days,
        random() < 0.05 AS held
    FROM generate_series(1, %s) AS n
), inserted AS (
    INSERT INTO backup.backups
    SELECT backup_id, n, at, who, state, key_state, lower(reason), log_offset, size_bytes,
        duration_s, state = 'created' AND intact IS DISTINCT FROM false, at + interval '1 minute',
        at + days * interval '1 day', at + days * interval '1 day', held, state = 'created', held,
        CASE WHEN state = 'purged' THEN at + interval '90 days' END
    FROM made
)
INSERT INTO backup.backup_documents
SELECT backup_id, jsonb_build_object(
    'backup_id', backup_id, 'state', state, 'requested_at', at, 'requested_by', who,
    'reason', reason, 'key_state', key_state, 'offset', log_offset, 'size_bytes', size_bytes,
    'duration_s', duration_s, 'intact', intact, 'proven_at', at + interval '1 minute',
    'started_at', at, 'created_at', at + interval '1 minute', 'cluster_id', 'c', 'topic_id', 't',
    'error', jsonb_build_object('code', 'storage.no_space', 'message', 'full', 'hint', NULL),
    'last_verification', NULL,
    'last_verified_at', at + days * interval '1 day',
    'rehearsed_at', at + days * interval '1 day',
    'holds', CASE WHEN held THEN '[{{"holder": "legal"}}]'::jsonb ELSE '[]'::jsonb END,
    'purged_at', CASE WHEN state = 'purged' THEN at + interval '90 days' END,
    'tables', repeat(md5(backup_id::text), 8)
) FROM made
"""
