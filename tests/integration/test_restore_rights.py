"""The rights that a restore needs, and those that it leaves as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from restore_service.checks import check_store
from restore_service.dependents import check_dependents
from restore_service.rights import copy_rights, renew_rights
from shared.database import Connection
from shared.errors import AccessError, DependentObjects
from shared.instance.migrate import migrate
from tests.plugins.postgres import PlaceDatabase, TestPostgres

OWNER, RESTORE = "secryn_projector", "secryn_restore"


@pytest.fixture(scope="module")
def place(postgres: TestPostgres) -> PlaceDatabase:
    """One for all: who changes it takes the change back."""
    made = postgres.fresh_place()
    with psycopg.connect(made.dsn(OWNER)) as conn:
        migrate(conn, "instance")
    return made


@contextmanager
def undone(place: PlaceDatabase, role: str | None = None) -> Iterator[Connection]:
    """Work in a transaction that is rolled back."""
    dsn = place.dsn() if role is None else place.dsn(role)
    with psycopg.connect(dsn) as conn, conn.transaction(force_rollback=True):
        yield conn


@pytest.fixture(params=["pg_signal_backend", "pg_read_all_stats", OWNER])
def taken_away(request: pytest.FixtureRequest, place: PlaceDatabase) -> Iterator[str]:
    right = str(request.param)
    with psycopg.connect(place.dsn(), autocommit=True) as admin:
        admin.execute(f"REVOKE {right} FROM {RESTORE}".encode())
        yield right
        admin.execute(f"GRANT {right} TO {RESTORE}".encode())


def test_a_role_with_the_rights_of_a_place_may_restore(place: PlaceDatabase) -> None:
    with psycopg.connect(place.dsn(RESTORE)) as conn:
        check_store(conn)


def test_a_missing_right_is_named_before_anything_is_touched(
    place: PlaceDatabase, taken_away: str
) -> None:
    with psycopg.connect(place.dsn(RESTORE)) as conn, pytest.raises(AccessError) as refused:
        check_store(conn)
    assert "GRANT" in refused.value.advice
    assert taken_away in refused.value.advice or taken_away == OWNER


@pytest.mark.parametrize(
    "stranger",
    [
        "VIEW instance.stranger AS SELECT name FROM instance.projects",
        "MATERIALIZED VIEW instance.stranger AS SELECT name FROM instance.projects",
        "TABLE instance.stranger (id int)",
        "SEQUENCE instance.stranger",
        "FUNCTION instance.stranger() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INDEX stranger ON instance.secret_versions (created_at)",
        "UNIQUE INDEX stranger ON instance.users (lower(username))",
        "STATISTICS instance.stranger ON name, vault_id FROM instance.secrets",
        "STATISTICS public.stranger ON name, vault_id FROM instance.secrets",
        "RULE stranger AS ON DELETE TO instance.projects DO INSTEAD NOTHING",
        "TYPE instance.stranger AS ENUM ('a')",
        "TYPE instance.stranger AS (a int)",
        "TYPE instance.stranger AS RANGE (subtype = int)",
        "DOMAIN instance.stranger AS text",
        'COLLATION instance.stranger FROM pg_catalog."C"',
        "TRIGGER stranger BEFORE UPDATE ON instance.projects FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
def test_what_somebody_put_into_the_store_is_named_and_not_taken_away(
    place: PlaceDatabase, stranger: str
) -> None:
    with undone(place) as conn:
        check_dependents(conn, "instance")
        conn.execute(f"CREATE {stranger}".encode())
        with pytest.raises(DependentObjects, match="stranger"):
            check_dependents(conn, "instance")


@pytest.mark.parametrize(
    "outside",
    [
        "VIEW public.outside AS SELECT id FROM instance.projects",
        "MATERIALIZED VIEW public.outside AS SELECT id FROM instance.projects",
        "TABLE public.outside (p uuid REFERENCES instance.projects)",
        "TABLE public.outside (p instance.projects)",
        "TABLE public.outside (p instance.projects[])",
        "TABLE public.outside () INHERITS (instance.projects)",
        "FUNCTION public.outside(instance.projects) RETURNS int LANGUAGE sql RETURN 1",
        "FUNCTION public.outside() RETURNS bigint LANGUAGE sql "
        "BEGIN ATOMIC SELECT count(*) FROM instance.projects; END",
        "POLICY outside ON public.t USING (id IN (SELECT id FROM instance.projects))",
        "RULE outside AS ON INSERT TO public.t DO ALSO DELETE FROM instance.projects",
        "PUBLICATION outside FOR TABLE instance.projects",
        "PUBLICATION outside FOR TABLES IN SCHEMA instance",
    ],
)
def test_what_depends_on_the_store_from_outside_is_named(
    place: PlaceDatabase, outside: str
) -> None:
    with undone(place) as conn:
        conn.execute("CREATE TABLE public.t (id uuid)")
        check_dependents(conn, "instance")
        conn.execute(f"CREATE {outside}".encode())
        with pytest.raises(DependentObjects, match="outside"):
            check_dependents(conn, "instance")


def test_policies_and_default_privileges_are_those_of_the_store_and_look_at_the_new_tables(
    place: PlaceDatabase,
) -> None:
    with undone(place, OWNER) as conn:
        for statement in (
            "ALTER TABLE instance.secrets ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE instance.secrets FORCE ROW LEVEL SECURITY",
            "ALTER TABLE instance.vaults ENABLE ROW LEVEL SECURITY",
            # It names another table of the store: of the new state it must be the new one.
            "CREATE POLICY open_vaults ON instance.secrets FOR SELECT TO secryn_platform USING "
            "(EXISTS (SELECT FROM instance.vaults v WHERE v.id = vault_id AND NOT restricted))",
            "CREATE POLICY mine ON instance.secrets AS RESTRICTIVE FOR INSERT "
            "WITH CHECK (created_by = current_user)",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA instance GRANT SELECT ON TABLES TO secryn_backup",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA instance "
            "GRANT USAGE ON SEQUENCES TO secryn_platform WITH GRANT OPTION",
        ):
            conn.execute(statement.encode())
        migrate(conn, "staging")
        copy_rights(conn, "instance", "staging")
        before = _policies(conn, "instance")
        assert [len(found) for found in before[::2]] == [2, 2]
        assert _policies(conn, "staging") == before
        conn.execute("ALTER SCHEMA instance RENAME TO before")
        conn.execute("ALTER SCHEMA staging RENAME TO instance")
        assert _policies(conn, "instance") == before


def _policies(
    conn: psycopg.Connection[tuple[object, ...]], schema: str
) -> list[list[tuple[object, ...]]]:
    return [
        conn.execute(query.encode(), (schema,)).fetchall()
        for query in (
            "SELECT tablename, policyname, permissive, roles, cmd, "
            "replace(qual, schemaname || '.', 'ours.'), with_check "
            "FROM pg_policies WHERE schemaname = %s ORDER BY 1, 2",
            "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = %s::text::regnamespace ORDER BY 1",
            "SELECT defaclrole::regrole::text, defaclobjtype, "
            "ARRAY(SELECT unnest(defaclacl)::text ORDER BY 1) FROM pg_default_acl "
            "WHERE defaclnamespace = %s::text::regnamespace ORDER BY 1, 2",
        )
    ]


def test_default_privileges_that_the_owner_cannot_give_again_are_named_before_the_fence(
    place: PlaceDatabase,
) -> None:
    with undone(place) as conn:
        conn.execute(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA instance GRANT SELECT ON TABLES TO secryn_platform"
        )
        row = conn.execute("SELECT current_user").fetchone()
        conn.execute(f"SET LOCAL ROLE {RESTORE}")
        with pytest.raises(AccessError) as refused:
            check_store(conn)
    assert row is not None
    assert str(row[0]) in refused.value.message
    assert "DEFAULT PRIVILEGES" in refused.value.advice


def test_a_right_that_was_taken_away_does_not_come_back(place: PlaceDatabase) -> None:
    # The owner's default privileges would give it to every new table.
    with undone(place, OWNER) as conn:
        conn.execute("REVOKE SELECT ON instance.secret_versions FROM secryn_platform")
        conn.execute("GRANT SELECT (secret_id) ON instance.secret_versions TO secryn_platform")
        conn.execute("REVOKE USAGE ON SCHEMA instance FROM secryn_backup")
        migrate(conn, "staging")
        copy_rights(conn, "instance", "staging")
        assert _rights(conn, "staging") == _rights(conn, "instance")


def test_rights_are_copied_once_more_only_where_they_were_changed(place: PlaceDatabase) -> None:
    # Under the locks of a cut-over: everybody waits for it.
    with undone(place, OWNER) as conn:
        conn.execute("ALTER TABLE instance.secrets ENABLE ROW LEVEL SECURITY")
        conn.execute(
            "CREATE POLICY open_vaults ON instance.secrets TO secryn_platform, secryn_backup USING "
            "(EXISTS (SELECT FROM instance.vaults v WHERE v.id = vault_id AND NOT restricted))"
        )
        conn.execute(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA instance GRANT SELECT ON TABLES TO secryn_backup"
        )
        migrate(conn, "staging")
        copy_rights(conn, "instance", "staging")
        written = _written(conn, "staging")
        renew_rights(conn, "instance", "staging")
        assert _written(conn, "staging") == written
        conn.execute("REVOKE SELECT ON instance.settings FROM secryn_platform")
        conn.execute("DROP POLICY open_vaults ON instance.secrets")
        renew_rights(conn, "instance", "staging")
        assert _rights(conn, "staging") == _rights(conn, "instance")
        assert _policies(conn, "staging") == _policies(conn, "instance")


def _written(conn: psycopg.Connection[tuple[object, ...]], schema: str) -> list[tuple[object, ...]]:
    """Return where each row about rights lies: one that is written anew lies elsewhere."""
    return conn.execute(
        "SELECT 'class', c.oid, c.ctid FROM pg_class c WHERE relnamespace = %(of)s::regnamespace "
        "UNION ALL SELECT 'policy', p.oid, p.ctid FROM pg_policy p JOIN pg_class c "
        "ON c.oid = polrelid WHERE relnamespace = %(of)s::regnamespace "
        "UNION ALL SELECT 'default', oid, ctid FROM pg_default_acl "
        "WHERE defaclnamespace = %(of)s::regnamespace ORDER BY 1, 2",
        {"of": schema},
    ).fetchall()


def _rights(conn: psycopg.Connection[tuple[object, ...]], schema: str) -> list[object]:
    found: list[object] = []
    for query in (
        "SELECT ARRAY(SELECT unnest(nspacl)::text ORDER BY 1) FROM pg_namespace WHERE nspname = %s",
        "SELECT relname, ARRAY(SELECT unnest(relacl)::text ORDER BY 1) FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = %s::text::regnamespace ORDER BY 1",
        "SELECT attrelid::regclass::text LIKE '%%versions', attname, attacl::text FROM pg_attribute "
        "JOIN pg_class c ON c.oid = attrelid WHERE attacl IS NOT NULL "
        "AND relnamespace = %s::text::regnamespace ORDER BY 1, 2",
    ):
        found += conn.execute(query.encode(), (schema,)).fetchall()
    return found
