"""Make a place on volumes: its keys and passwords once, and for each container what it needs.

``master`` is the whole place, a state folder as ``secryn up`` makes one. Beside it lies one
folder a container, laid out as a state folder too, with that container's own files alone: who
breaks into one finds neither another's password nor another's key. A container sees its folder at
``HOME``, and its data on volumes below it.
"""

from __future__ import annotations

import tomllib
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import ValidationError

from deploy.containers.broker import SERVER_PROPERTIES, broker_properties
from deploy.embedded.configs import (
    SERVICE_ROLES,
    ProcessName,
    ensure_credentials,
    platform_settings,
    process_settings,
    write_bootstrap,
)
from deploy.embedded.database import PLATFORM, passfile_line, read_password
from deploy.embedded.folder import FOLDERS, StateFolder, create_state
from deploy.embedded.keys import BACKUP_KEY, ISSUER_KEY, RESTORE_KEY, ensure_keys
from deploy.embedded.place import Place, faults, load_place, save_place
from deploy.embedded.postgres import SUPERUSER
from deploy.embedded.users import ADMIN, CONTROLLER
from shared.errors import StackStateInvalid, UnknownSetting
from shared.secretfiles import read_secret_file, write_secret_file

# Where a container sees its own folder.
HOME: Final = Path("/secryn")
MASTER: Final = "master"
OPERATOR, POSTGRES, KAFKA = "operator", "postgres", "kafka"
SUPERUSER_FILE: Final = "superuser.password"
CLUSTER_ID: Final = "cluster-id"
# Of a file that a container's other user reads through its group.
GROUP_READS: Final = 0o640
ROOT_KEY: Final = "root.key"

# In a container the loopback is its own: the others are found by their names.
_DEFAULTS: Final[Mapping[str, dict[str, Any]]] = {
    "hosts": {"listen": "0.0.0.0", "postgres": "postgres", "kafka": "kafka"},  # noqa: S104
    "ports": {"postgres": 5432, "kafka": 9092, "kafka_controller": 9093},
}
# The projector opens nothing and signs nothing.
_SIGNING_KEYS: Mapping[ProcessName, str] = {"backup": BACKUP_KEY, "restore": RESTORE_KEY}
_LISTS: Final = ("issuers.toml", "trusted-signers.toml")

Tell = Callable[[str], None]


def make_place(folder: Path, wanted: Path | None, tell: Tell, *, new_bootstrap: bool) -> Place:
    """Make what is missing of the place in ``folder``, and hand out everything anew.

    ``wanted`` is a TOML file with what an operator decides of a place: hosts, ports, environment,
    settings. It decides all of them: what stood in it once and no longer does is the default again.
    Without one the place stays as it is. Raises UnknownSetting, StackStateInvalid.
    """
    master = create_state(folder / MASTER, None)
    place = _settled(master, wanted, tell)
    _check_handed_out(folder, master)
    ensure_credentials(master)
    ensure_keys(master)
    if new_bootstrap:
        write_bootstrap(master)
    for name in SERVICE_ROLES:
        _hand_to_service(master, place, name, _folder_of(folder, name))
    _hand_to_operator(master, place, _folder_of(folder, OPERATOR))
    _hand_to_postgres(master, folder / POSTGRES)
    _hand_to_kafka(master, place, folder / KAFKA)
    return place


def _settled(master: StateFolder, wanted: Path | None, tell: Tell) -> Place:
    """Return the place as it is to be, and keep it."""
    before = load_place(master.place) if master.place.exists() else None
    if before is not None and wanted is None:
        return before
    instance_id = uuid.uuid4() if before is None else before.instance_id
    if before is None:
        tell(f"making a new instance {instance_id}")
    try:
        place = Place.model_validate(
            {"instance_id": instance_id} | _with_defaults(_decided(wanted))
        )
    except ValidationError as error:
        raise UnknownSetting(f"{wanted} is refused: {faults(error)}") from None
    if place.postgres is not None or place.kafka is not None:
        raise UnknownSetting(
            f"{wanted}: an own PostgreSQL or Kafka needs no container of ours",
            hint="Leave `postgres` and `kafka` out, or give the services settings files of yours.",
        )
    save_place(master.place, place)
    return place


def _decided(wanted: Path | None) -> dict[str, Any]:
    if wanted is None:
        return {}
    try:
        document = tomllib.loads(wanted.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnknownSetting(f"{wanted} cannot be read: {error}") from error
    if "instance_id" in document:
        raise UnknownSetting(
            f"{wanted}: instance_id is made, never chosen", hint="Remove instance_id from it."
        )
    return document


def _with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Add how the containers of the compose file find each other, where nothing else is decided."""
    added: dict[str, Any] = {}
    for section, defaults in _DEFAULTS.items():
        given = document.get(section, {})
        # What is no table is refused with the rest.
        added[section] = defaults | given if isinstance(given, dict) else given
    return document | added


def _check_handed_out(folder: Path, master: StateFolder) -> None:
    """Refuse to make new keys where those of an earlier place are in use."""
    for name in _SIGNING_KEYS:
        root_key = StateFolder(folder / name).key(ROOT_KEY)
        if not root_key.exists():
            continue
        ours = master.key(ROOT_KEY)
        if not ours.exists() or not compare_digest(
            read_secret_file(ours), read_secret_file(root_key)
        ):
            raise StackStateInvalid(
                f"{name} has the root key of another place than the volume of the place",
                hint="Bring the volume of the place back, from a copy; or remove the volumes of "
                "all keys and of all data, and restore a backup into a new place.",
            )


def _folder_of(folder: Path, name: str) -> StateFolder:
    """Return one container's folder, with a name for every volume that is mounted below it."""
    target = StateFolder(folder / name)
    for part in ("", *FOLDERS, "postgres"):
        (target.root / part).mkdir(mode=0o700, exist_ok=True)
    return target


def _hand_to_service(
    master: StateFolder, place: Place, name: ProcessName, target: StateFolder
) -> None:
    role = SERVICE_ROLES[name]
    _copy(master.token, target.token)
    keys = [*_LISTS]
    if name in _SIGNING_KEYS:
        keys += [ROOT_KEY, _SIGNING_KEYS[name]]
        _copy(master.bootstrap, target.bootstrap)
    for key in keys:
        _copy(master.key(key), target.key(key))
    _copy(master.kafka_password(name), target.kafka_password(name))
    _hand_passfile(master, place, role, target)
    settings = process_settings(StateFolder(HOME), place, name)
    _write(target.config(name), tomli_w.dumps(settings).encode())


def _hand_to_operator(master: StateFolder, place: Place, target: StateFolder) -> None:
    """Hand out what the command line needs, of a person and of the sample's writer."""
    _copy(master.place, target.place)
    _copy(master.token, target.token)
    _copy(master.bootstrap, target.bootstrap)
    for key in (ROOT_KEY, ISSUER_KEY):
        _copy(master.key(key), target.key(key))
    _copy(master.kafka_password("platform"), target.kafka_password("platform"))
    _hand_passfile(master, place, PLATFORM, target)
    settings = platform_settings(StateFolder(HOME), place)
    _write(target.config("platform"), tomli_w.dumps(settings).encode())


def _hand_to_postgres(master: StateFolder, target: Path) -> None:
    _open_to_group(target)
    password = read_password(master.passfile(SUPERUSER))
    _write(target / SUPERUSER_FILE, password.encode(), GROUP_READS)


def _hand_to_kafka(master: StateFolder, place: Place, target: Path) -> None:
    _open_to_group(target)
    admin, controller = (
        read_secret_file(master.kafka_password(user)).decode() for user in (ADMIN, CONTROLLER)
    )
    properties = broker_properties(place, admin, controller)
    _write(target / SERVER_PROPERTIES, properties.encode(), GROUP_READS)
    # Of the place, so that a log that was lost is another one.
    _write(target / CLUSTER_ID, f"{_cluster_id(target)}\n".encode("ascii"), GROUP_READS)


def _cluster_id(target: Path) -> str:
    file = target / CLUSTER_ID
    if file.exists():
        return file.read_text(encoding="ascii").strip()
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _open_to_group(target: Path) -> None:
    """Let the server's own user, who is of our group, read what it is handed."""
    target.mkdir(exist_ok=True)
    target.chmod(0o750)


def _hand_passfile(master: StateFolder, place: Place, role: str, target: StateFolder) -> None:
    password = read_password(master.passfile(role))
    _write(target.passfile(role), passfile_line(place.hosts.postgres, role, password))


def _copy(source: Path, target: Path) -> None:
    _write(target, source.read_bytes())


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    if not path.exists() or path.read_bytes() != content:
        write_secret_file(path, content, exist_ok=True)
    path.chmod(mode)
