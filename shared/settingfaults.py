"""What is wrong with settings, in words: the setting's name, why, and what to write instead.

Never the value: it might be a secret that was put in the wrong place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from shared.errors import UnknownSetting
from shared.folders import prepare_folder
from shared.secretfiles import read_secret_file

# Made later by another command, or missed by rehearsals alone: no reason not to restore.
_MAY_BE_MISSING: Final = frozenset({"bootstrap_file", "identity_file"})
# Files that everybody may read.
_PUBLIC: Final = ("tls_ca_file", "tls_cert_file")


def told_faults(
    error: ValidationError, model: type[BaseModel], variables: Mapping[str, str]
) -> str:
    """Return every fault in one line; ``variables`` are the settings that a variable gave."""
    return "; ".join(
        _told(fault, model, variables)
        for fault in error.errors(include_input=False, include_url=False)
    )


def _told(fault: Any, model: type[BaseModel], variables: Mapping[str, str]) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    fields = dict(_settings(model))
    if fault["type"] == "extra_forbidden":
        why = f"there is no such setting{_meant(name, list(fields))}"
    elif fault["type"] == "missing" and name in fields and fields[name].description:
        why = f"it is required: {fields[name].description}"
    else:
        why = fault["msg"]
    given = f" (given by {variables[name]})" if name in variables else ""
    return f"{name}: {why}{given}"


def _meant(name: str, known: list[str]) -> str:
    same = [each for each in known if each.rpartition(".")[2] == name.rpartition(".")[2]]
    found = same or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {found[0]}?" if found else ""


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner = [field.annotation, *get_args(field.annotation)]
        sections = [
            each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        yield f"{prefix}{name}", field
        for section in sections:
            yield from _settings(section, f"{prefix}{name}.")


def check_files(settings: BaseModel, *, leave_out: frozenset[str] = frozenset()) -> None:
    """Read every file that ``settings`` name, and refuse them all at once where they are wrong.

    ``leave_out`` are settings that this process never opens. Raises UnknownSetting.
    """
    faults = [
        f"{name}: {fault}"
        for name, path in _files(settings)
        if name not in leave_out and (fault := _fault(name, path)) is not None
    ]
    if faults:
        raise UnknownSetting(
            f"files are refused: {'; '.join(faults)}",
            hint="Name files that are there and, where they hold a secret, closed to others (0600).",
        )


def _files(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _files(value, f"{prefix}{name}.")
        elif name == "dsn" and (passfile := _passfile(value)) is not None:
            yield f"{prefix}{name} (passfile)", passfile
        elif isinstance(value, Path) and name.endswith("_file") and name not in _MAY_BE_MISSING:
            yield f"{prefix}{name}", value


def _passfile(dsn: str) -> Path | None:
    """Return the file in which libpq looks for the password; where it is wrong, libpq passes it over."""
    # The command line reads settings without a database, and need not load its client.
    import psycopg

    named = psycopg.conninfo.conninfo_to_dict(dsn).get("passfile")
    return None if named is None else Path(str(named))


def check_folders(settings: BaseModel, *, read_only: frozenset[str] = frozenset()) -> None:
    """Make every folder that ``settings`` name where it is missing; refuse those of no use at once.

    ``read_only`` are settings whose folder this process never writes. Raises UnknownSetting.
    """
    faults, hint = [], None
    for name, path in _folders(settings):
        try:
            prepare_folder(path, writable=name not in read_only)
        except UnknownSetting as error:
            faults.append(f"{name}: {error.message}")
            hint = error.advice
    if faults:
        raise UnknownSetting(f"folders are refused: {'; '.join(faults)}", hint=hint)


def _folders(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _folders(value, f"{prefix}{name}.")
        elif isinstance(value, Path) and name == "folder":
            yield f"{prefix}{name}", value


def _fault(name: str, path: Path) -> str | None:
    try:
        if name.endswith(_PUBLIC):
            path.read_bytes()
        else:
            read_secret_file(path)
    except UnknownSetting as error:
        return error.message
    except OSError as error:
        return f"the file {path} cannot be read: {error.strerror}"
    return None
