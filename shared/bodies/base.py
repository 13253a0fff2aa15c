"""What every body is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """The body of one type of event. A later release may say more: ignore what you do not know."""

    model_config = ConfigDict(frozen=True)

    TYPE: ClassVar[str]


def bodies_of(*modules: ModuleType) -> Mapping[str, type[Body]]:
    """Return the models that ``modules`` define, by the type of their events."""
    found = {
        model.TYPE: model
        for module in modules
        for model in vars(module).values()
        if isinstance(model, type)
        and issubclass(model, Body)
        and model.__module__ == module.__name__
        and "TYPE" in vars(model)
    }
    return MappingProxyType(found)
