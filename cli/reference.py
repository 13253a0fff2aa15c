"""Write the reference pages that come from the code: errors, settings and the instance's events.

``python -m cli.reference`` writes them; a test compares them with what lies in docs/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from backup_service.projector.settings import ProjectorSettings
from backup_service.settings import BackupServiceSettings
from restore_service.settings import RestoreServiceSettings
from shared.errors import all_error_classes
from shared.instance.events import json_schemas

PROCESSES: Mapping[str, type[BaseModel]] = {
    "projector (`python -m backup_service.projector`)": ProjectorSettings,
    "backup_service (`python -m backup_service`)": BackupServiceSettings,
    "restore_service (`python -m restore_service`)": RestoreServiceSettings,
}


def errors_page() -> str:
    """Return docs/errors.md."""
    rows = sorted(
        {
            (
                cls.code,
                f"| `{cls.code}` | {cls.exit_code} | {cls.http_status} "
                f"| {'yes' if cls.retryable else 'no'} | {cls.hint} |",
            )
            for cls in all_error_classes()
            if cls.__module__ == "shared.errors"
        }
    )
    return "\n".join(
        [
            "# Errors and exit codes",
            "",
            "Every refusal carries a stable code, what happened and what to do. The command line",
            "ends with the exit code; HTTP answers with the status and an RFC 9457 problem; over",
            "Kafka the code stands in the answering event.",
            "",
            "Exit 0 is success, 1 an unexpected error, 130 an interruption at the keyboard.",
            "`secryn restore run` also ends with 0 where the policy asks for an approval: then nothing",
            "was restored yet, and the `state` that it prints is `awaiting_approval`.",
            "",
            "| code | exit | HTTP | same call may succeed later | what to do |",
            "|---|---|---|---|---|",
            *(row for _, row in rows),
            "",
        ]
    )


def settings_page() -> str:
    """Return docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "A process reads one TOML file (`--config FILE`), then the environment: the field `dsn` of",
        "the section `postgres` is `SECRYN_POSTGRES__DSN`, and the environment wins. An unknown or",
        "contradictory setting is refused at the start, by name. `secryn up` writes these files",
        "into `config/` of the state.",
    ]
    for title, model in PROCESSES.items():
        lines += ["", f"## {title}", "", "| setting | type | default | what it is |"]
        lines += ["|---|---|---|---|", *_rows(model, "")]
    return "\n".join([*lines, ""])


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = _section(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _rows(inner, f"{prefix}{name}.")
            continue
        shown = getattr(inner, "__name__", None) if isinstance(inner, type) else None
        kind = (shown or str(inner).replace("typing.", "")).replace("|", "or")
        yield f"| `{prefix}{name}` | {kind} | {_default(field)} | {field.description or ''} |"


def _section(annotation: Any) -> Any:
    """Return the section that an optional one is, anything else as it is."""
    models = [
        inner
        for inner in get_args(annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel)
    ]
    return models[0] if models else annotation


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "none" if value is None or value is PydanticUndefined else f"`{value}`"


def events_schema() -> str:
    """Return docs/instance-events.schema.json: a JSON Schema (2020-12) of every event's body."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of a Secryn instance, by CloudEvents type",
        "events": json_schemas(),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write_pages(folder: Path) -> None:
    """Write every generated page into ``folder``."""
    (folder / "errors.md").write_text(errors_page(), encoding="utf-8")
    (folder / "settings.md").write_text(settings_page(), encoding="utf-8")
    (folder / "instance-events.schema.json").write_text(events_schema(), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(__file__).resolve().parent.parent / "docs")
