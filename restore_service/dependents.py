"""What hangs on the store from outside of it: it would follow the old tables through a rename."""

from __future__ import annotations

from shared.database import Connection
from shared.errors import DependentObjects
from shared.instance.migrate import indexes_of_version, newest_version, tables_of_version
from shared.instance.tables import LOG_POSITION

_OUTSIDE = """
WITH ours AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s
), row_types AS (
    SELECT t.oid, t.typarray FROM pg_type t WHERE t.typrelid IN (SELECT oid FROM ours)
), refers AS (
    SELECT classid, objid FROM pg_depend
    WHERE (refclassid = 'pg_class'::regclass AND refobjid IN (SELECT oid FROM ours))
    OR (refclassid = 'pg_type'::regclass
        AND refobjid IN (SELECT oid FROM row_types UNION SELECT typarray FROM row_types))
)
SELECT CASE WHEN v.relkind IN ('v', 'm') THEN 'view ' ELSE 'rule ' || r.rulename || ' on ' END
       || v.oid::regclass::text
FROM refers d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE n.nspname <> %(schema)s
UNION
SELECT 'policy ' || polname || ' on ' || polrelid::regclass::text
FROM refers d JOIN pg_policy p ON p.oid = d.objid AND d.classid = 'pg_policy'::regclass
WHERE polrelid NOT IN (SELECT oid FROM ours)
UNION
SELECT 'foreign key ' || conname || ' of ' || conrelid::regclass::text
FROM pg_constraint WHERE contype = 'f'
  AND (confrelid IN (SELECT oid FROM ours)) <> (conrelid IN (SELECT oid FROM ours))
UNION
SELECT 'function ' || p.oid::regprocedure::text
FROM refers d JOIN pg_proc p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass
JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname <> %(schema)s
UNION
SELECT 'table ' || c.oid::regclass::text
FROM refers d JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> %(schema)s AND c.relkind IN ('r', 'p', 'f', 'c')
UNION
SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass::text
FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM ours) AND NOT tgisinternal
UNION
SELECT 'publication ' || p.pubname
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid IN (SELECT oid FROM ours)
"""
_SCHEMA_PUBLICATIONS = """
SELECT 'publication ' || p.pubname
FROM pg_publication_namespace r JOIN pg_publication p ON p.oid = r.pnpubid
JOIN pg_namespace n ON n.oid = r.pnnspid WHERE n.nspname = %(schema)s
"""
# Not ours, and inside: the restore would take it away with the old state, without a word.
_INSIDE = """
SELECT CASE relkind WHEN 'r' THEN 'table ' WHEN 'p' THEN 'table ' WHEN 'f' THEN 'table '
       WHEN 'S' THEN 'sequence ' ELSE 'view ' END || c.oid::regclass::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
  AND NOT c.relname = ANY(%(known)s)
UNION
SELECT 'function ' || p.oid::regprocedure::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %(schema)s
UNION
SELECT 'index ' || c.oid::regclass::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('i', 'I') AND NOT c.relname = ANY(%(indexes)s)
UNION
SELECT 'rule ' || rulename || ' on ' || ev_class::regclass::text
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p')
UNION
SELECT 'statistics object ' || s.stxnamespace::regnamespace || '.' || s.stxname
FROM pg_statistic_ext s JOIN pg_class c ON c.oid = s.stxrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s
UNION
SELECT pg_describe_object(classid, objid, objsubid)
FROM pg_depend JOIN pg_namespace n ON n.oid = refobjid
WHERE refclassid = 'pg_namespace'::regclass AND n.nspname = %(schema)s
  AND classid IN ('pg_type'::regclass, 'pg_collation'::regclass, 'pg_operator'::regclass,
    'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_conversion'::regclass,
    'pg_ts_config'::regclass, 'pg_ts_dict'::regclass, 'pg_ts_parser'::regclass,
    'pg_ts_template'::regclass, 'pg_extension'::regclass)
UNION
SELECT 'type ' || t.oid::regtype::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.typrelid = c.oid
WHERE n.nspname = %(schema)s AND c.relkind = 'c'
"""


def check_dependents(conn: Connection, schema: str) -> None:
    """Refuse to go on while something depends on ``schema`` from outside, or lies in it unknown.

    What an operator added to the tables themselves, an index say, is named and not copied: made
    anew while everybody is held it takes its time in the size of the table, and a unique one may
    not hold for the rows that come.

    A function whose body is a string is not known to depend on anything (PostgreSQL manual,
    "Dependency Tracking"): it finds the new tables by their names.

    Raises DependentObjects, naming all of them.
    """
    found = {row[0] for row in conn.execute(_OUTSIDE, {"schema": schema})}
    if conn.execute("SELECT to_regclass('pg_catalog.pg_publication_namespace')").fetchone() != (
        None,
    ):
        found |= {row[0] for row in conn.execute(_SCHEMA_PUBLICATIONS, {"schema": schema})}
    known = [*tables_of_version(newest_version()), LOG_POSITION]
    indexes = [*indexes_of_version(newest_version())]
    names = {"schema": schema, "known": known, "indexes": indexes}
    found |= {row[0] for row in conn.execute(_INSIDE, names)}
    if found:
        raise DependentObjects(f"these depend on the store: {', '.join(sorted(found))}")
