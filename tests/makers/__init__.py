"""How a random event of each type is made from a number and from what there is already."""

from typing import Final

from shared.instance import events as ev
from tests.makers import access, contents
from tests.makers.world import MAKERS, World

__all__ = ["CREATORS", "MAKERS", "MAKER_MODULES", "World"]

# Importing these fills MAKERS.
MAKER_MODULES = (access, contents)
CREATORS: Final[tuple[type[ev.InstanceEvent], ...]] = (
    ev.ProjectCreated, ev.VaultCreated, ev.SecretCreated, ev.KeyCreated, ev.CertificateCreated,
    ev.UserCreated, ev.RoleCreated, ev.RoleBindingCreated, ev.KeyringKeyAdded, ev.SettingSet,
)  # fmt: skip
