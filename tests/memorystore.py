"""A store in memory: what PostgreSQL does for the fold, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from shared.instance.fold import BatchResult, LoggedEvent, fold, needs_of
from shared.instance.workingset import TABLES, Key, Needs, Row, Table, WorkingSet


class MemoryStore:
    """What PostgreSQL does for the fold: find rows by key or name, take the changed ones."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}

    def apply(self, batch: list[LoggedEvent], epoch: int = 1) -> BatchResult:
        needs, working = needs_of(batch), WorkingSet()
        working.load(
            needs, {name: list(self._find(table, needs)) for name, table in TABLES.items()}
        )
        result = fold(working, batch, epoch)
        self._write(working)
        return result

    def _find(self, table: Table, needs: Needs) -> Iterable[Row]:
        for key, row in self.rows[table.name].items():
            named = table.unique and table.name_of(row) in needs.names[table.name]
            if table.name in needs.whole or key in needs.keys[table.name] or named:
                yield dict(row)

    def _write(self, working: WorkingSet) -> None:
        for (name, parent), ids in working.child_deletes.items():
            rows = self.rows[name]
            self.rows[name] = {key: row for key, row in rows.items() if row[parent] not in ids}
        for name, table in TABLES.items():
            for key in working.deleted(name):
                self.rows[name].pop(key, None)
            for row in working.written(name):
                self.rows[name][table.key_of(row)] = row
