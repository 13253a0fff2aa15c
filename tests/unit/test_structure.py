"""The folders import what docs/structure.md allows, and nothing else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"backup_service", "restore_service", "shared", "serving", "cli", "deploy", "tests", "bench"}
MAY_IMPORT = {
    "backup_service": {"backup_service", "shared", "serving"},
    "restore_service": {"restore_service", "shared", "serving"},
    "shared": {"shared"},
    "serving": {"serving", "shared"},
    "deploy": {"deploy", "shared"},
}


def imported_modules(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_a_folder_imports_only_what_the_structure_page_allows(folder: str) -> None:
    wrong = {
        (str(file.relative_to(ROOT)), module)
        for file in (ROOT / folder).rglob("*.py")
        for module in imported_modules(file)
        if module.split(".")[0] in OURS - MAY_IMPORT[folder]
    }
    assert not wrong


def test_shared_holds_no_flask() -> None:
    assert not [
        file
        for file in (ROOT / "shared").rglob("*.py")
        if any(module.split(".")[0] in {"flask", "werkzeug"} for module in imported_modules(file))
    ]


def test_kafka_stands_behind_one_adapter() -> None:
    users = {
        file.relative_to(ROOT).parts[:2]
        for folder in sorted(OURS - {"tests", "bench"})
        for file in (ROOT / folder).rglob("*.py")
        if any(module.split(".")[0] == "kafka" for module in imported_modules(file))
    }
    assert users <= {("shared", "kafka"), ("deploy", "embedded")}
