"""The tree of errors: codes that stay, exit codes, HTTP statuses, and what to do."""

import ast
import re
from pathlib import Path

import pytest

from shared.errors import (
    AccessError,
    ArchiveError,
    ConflictError,
    FailedError,
    NotFoundError,
    SecrynError,
    UnavailableError,
    UsageError,
    all_error_classes,
    error_class,
)

ROOT = Path(__file__).parents[2]
CLASSES = [cls for cls in all_error_classes() if cls.__module__ == "shared.errors"]
EXIT_CODES = {
    SecrynError: 1,
    UsageError: 2,
    AccessError: 3,
    ConflictError: 4,
    NotFoundError: 5,
    ArchiveError: 6,
    UnavailableError: 7,
    FailedError: 8,
}
STATUSES = {400, 401, 403, 404, 405, 409, 412, 413, 415, 416, 422, 428, 429, 500, 503, 507}
# What somebody outside may rely on: a code here may only ever be joined by others.
PUBLISHED = (ROOT / "tests" / "vectors" / "error-codes.txt").read_text(encoding="ascii").split()


def each(classes: list[type[SecrynError]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cls", classes, ids=lambda cls: cls.code)


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in CLASSES]
    assert sorted(set(codes)) == sorted(codes)


def test_codes_once_published_are_still_there() -> None:
    assert set(PUBLISHED) <= {cls.code for cls in CLASSES}


def test_the_whole_tree_stands_in_one_file() -> None:
    ours = {cls.__name__ for cls in CLASSES}
    elsewhere = [
        f"{file.relative_to(ROOT)}: {node.name}"
        for folder in ("shared", "serving", "backup_service", "restore_service", "cli", "deploy")
        for file in (ROOT / folder).rglob("*.py")
        if file != ROOT / "shared" / "errors.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in ours for base in node.bases)
    ]
    assert not elsewhere


@each(CLASSES)
def test_an_error_says_what_to_do(cls: type[SecrynError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*(\.[a-z]+(_[a-z]+)*)?", cls.code)
    assert len(cls.hint) > 20
    assert cls.hint.endswith(".")


@each(CLASSES)
def test_a_branch_has_one_exit_code_and_one_class_of_status(cls: type[SecrynError]) -> None:
    branch = next(base for base in cls.__mro__ if base in EXIT_CODES)
    assert cls.exit_code == EXIT_CODES[branch]
    assert cls.http_status // 100 == branch.http_status // 100
    assert cls.http_status in STATUSES


def test_exit_codes_tell_the_branches_apart() -> None:
    assert [branch.exit_code for branch in EXIT_CODES] == list(EXIT_CODES.values())
    assert set(SecrynError.__subclasses__()) == set(EXIT_CODES) - {SecrynError}


@each(CLASSES)
def test_a_problem_carries_the_whole_error(cls: type[SecrynError]) -> None:
    problem = cls("what happened").as_problem()
    assert problem == {
        "type": f"urn:secryn:error:{cls.code}",
        "title": cls.code,
        "status": cls.http_status,
        "detail": "what happened",
        "code": cls.code,
        "hint": cls.hint,
        "retryable": cls.retryable,
    }


def test_a_hint_can_be_more_exact_than_that_of_the_class() -> None:
    error = UsageError("what happened", hint="Do this.")
    assert error.as_problem()["hint"] == "Do this."
    assert UsageError("another").advice == UsageError.hint
    assert str(error) == "what happened"


@each(CLASSES)
def test_a_code_leads_back_to_its_class(cls: type[SecrynError]) -> None:
    assert error_class(cls.code) is cls


def test_an_unknown_code_is_an_internal_error() -> None:
    assert error_class("no.such.code") is SecrynError


def test_only_what_may_pass_by_itself_may_be_retried() -> None:
    assert not [
        cls.code
        for cls in CLASSES
        if cls.retryable and issubclass(cls, UsageError | AccessError | ArchiveError)
    ]
    assert all(cls.retryable for cls in CLASSES if issubclass(cls, UnavailableError))
