"""What a person or a program reads: documents on stdout, messages on stderr, exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer

from shared.errors import SecrynError, UsageError, error_class

P = ParamSpec("P")
R = TypeVar("R")

FILE_HINT = "Name a file or folder that is there, and that you may read or write."


def emit(
    document: Mapping[str, Any], as_json: bool, tell: Callable[[], object] | None = None
) -> None:
    """Write ``document`` as one JSON document, or let ``tell`` write it for a person.

    Without ``tell`` a person reads the document's fields, one a line.
    """
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False, indent=None, default=str))
    elif tell is not None:
        tell()
    else:
        for name, value in document.items():
            shown = (
                json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
            )
            typer.echo(f"{name}: {'-' if value is None else shown}")


def plain(text: str) -> str:
    """Return a name without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def fail(error: SecrynError, as_json: bool = False) -> NoReturn:
    """Say what happened and what to do, and exit with the code of the error's class."""
    if as_json:
        document = {"error": {"code": error.code, "message": error.message, "hint": error.advice}}
        typer.echo(json.dumps(document, ensure_ascii=False))
    typer.echo(f"secryn: {error.message} [{error.code}]\n  {error.advice}", err=True)
    sys.exit(error.exit_code)


def error_of(
    document: Mapping[str, Any], otherwise: type[SecrynError], message: str
) -> SecrynError:
    """Return the error that ended what ``document`` tells of, or ``otherwise`` with ``message``."""
    fault = document.get("error") or {}
    return error_class(str(fault.get("code", otherwise.code)))(
        str(fault.get("message", message)), hint=fault.get("hint")
    )


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn every SecrynError of a command into its message and exit code."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SecrynError as error:
            fail(error, bool(kwargs.get("as_json")))
        except BrokenPipeError:
            # Whoever read the output has enough of it.
            raise
        except OSError as error:
            what = error.strerror or type(error).__name__
            named = f"{error.filename}: {what}" if error.filename else what
            fail(UsageError(named, hint=FILE_HINT), bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            typer.echo("secryn: interrupted", err=True)
            sys.exit(130)

    return guarded
