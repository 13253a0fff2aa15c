"""What every standing setting is: a frozen model under a name, read from a document in words."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import UsageError


class StandingSetting(BaseModel):
    """One standing setting. Its defaults are what holds where it was never set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # How people and routes call it, and the name of the instance's setting.
    SHORT: ClassVar[str]
    # What another instance's data bring of it does nothing before a word of confirmation.
    PAUSED_WHEN_FOREIGN: ClassVar[bool] = False
    # Whatever a restore brings of it is held back in part.
    HELD_BACK: ClassVar[bool] = False

    @classmethod
    def setting(cls) -> str:
        """Return the name of the instance's setting."""
        return f"backup.{cls.SHORT}"

    @classmethod
    def read(cls, document: Any) -> Self:
        """Read the setting from JSON. Raises UsageError, naming the field and what to write."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise UsageError(f"the {cls.SHORT} is refused: {_faults(error)}") from None

    def as_json(self) -> dict[str, Any]:
        """Return what is stored: every field, so that a later default changes nothing."""
        return self.model_dump(mode="json")

    def named_recipients(self) -> frozenset[str]:
        """Return whom the setting lets read backups."""
        return frozenset()

    def goes_on(self, _before: Self) -> bool:
        """Tell whether what ``_before`` began goes on as it was."""
        return False

    def shown(self) -> dict[str, Any]:
        """Return what the audit trail shows: recipients by their fingerprints."""
        return self.as_json()


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'document'}: "
        f"{fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_input=False, include_url=False)
    )
