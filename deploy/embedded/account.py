"""The user that PostgreSQL runs as when `secryn` is run by root.

PostgreSQL refuses to run as root, and `initdb` refuses a uid without a name. So root gets a
system user of its own for it: without password, shell, home or group members. An existing user
(`nobody`, `postgres`) would do as well and costs less, but then everything else that runs under
that name could read the instance.

What that user is given is the least that works: its own folder, and the right to walk through
(not to list) the folders above its data and above PostgreSQL's programs. Where a folder above
is closed (as /root often is), the right to walk goes to this one user by an access control list;
only a file system without them gets the `x` for all.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
import struct
import subprocess
import time
from pathlib import Path

from deploy.embedded.process import Account
from shared.errors import StackError

ACCOUNT_NAME = "secryn-postgres"
USERADD_TRIES = 20
USERADD_PAUSE_S = 0.25

# acl(5) as an extended attribute (linux/posix_acl_xattr.h): little-endian version, then entries
# of tag, permissions, id, ordered by tag and id.
_ACL_NAME = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_WALK = 0x1


def server_account() -> Account | None:
    """Return the user for PostgreSQL when the caller is root, making it once; else None.

    Raises StackError when there is no such user and none can be made.
    """
    if os.geteuid() != 0:
        return None
    entry = _lookup() or _create()
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _lookup() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        return None


def _create() -> pwd.struct_passwd:
    tool = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if tool is None:
        raise StackError(
            f"PostgreSQL does not run as root, and there is no `useradd` to make {ACCOUNT_NAME}",
            hint=f"Make a system user {ACCOUNT_NAME}, or run `secryn up` as an ordinary user.",
        )
    reason = ""
    # Another start may make the same user, or anything else hold the lock of the user database.
    for _ in range(USERADD_TRIES):
        made = subprocess.run(
            [tool, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", "/usr/sbin/nologin", ACCOUNT_NAME],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        entry = _lookup()
        if entry is not None:
            return entry
        reason = made.stderr.strip()
        time.sleep(USERADD_PAUSE_S)
    raise StackError(f"the system user {ACCOUNT_NAME} could not be made: {reason}")


def open_way(path: Path, account: Account) -> list[str]:
    """Let ``account`` walk through every folder above ``path``; return what was changed, in words."""
    changes = []
    for folder in reversed(path.resolve().parents):
        facts = folder.stat()
        if facts.st_mode & stat.S_IXOTH or facts.st_uid == account.uid:
            continue
        if facts.st_gid == account.gid and facts.st_mode & stat.S_IXGRP:
            continue
        if _allow_walk(folder, account.uid):
            changes.append(f"{account.name} may now walk through {folder}")
    return changes


def open_tree(root: Path) -> None:
    """Make the programs below ``root`` readable to every user (they hold nothing secret)."""
    for folder, _, files in os.walk(root):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            if path.is_symlink():
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = mode | stat.S_IRGRP | stat.S_IROTH
            if mode & stat.S_IXUSR:
                wanted |= stat.S_IXGRP | stat.S_IXOTH
            if wanted != mode:
                path.chmod(wanted)


def _allow_walk(folder: Path, uid: int) -> bool:
    """Give ``uid`` the right to walk through ``folder``; return whether anything was changed."""
    try:
        present = os.getxattr(folder, _ACL_NAME)
        entries = list(_ACL_ENTRY.iter_unpack(present[len(_ACL_VERSION) :]))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        entries = _entries_of_mode(folder.stat().st_mode)
    if (_USER, _WALK, uid) in entries:
        return False
    kept = [entry for entry in entries if entry[0] != _MASK and entry[::2] != (_USER, uid)]
    kept.append((_USER, _WALK, uid))
    mask = 0
    for tag, permissions, _ in kept:
        if tag not in (_USER_OBJ, _OTHER):
            mask |= permissions
    kept.append((_MASK, mask, _NO_ID))
    packed = _ACL_VERSION + b"".join(_ACL_ENTRY.pack(*entry) for entry in sorted(kept))
    try:
        os.setxattr(folder, _ACL_NAME, packed)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
    return True


def _entries_of_mode(mode: int) -> list[tuple[int, int, int]]:
    return [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        (_GROUP_OBJ, mode >> 3 & 7, _NO_ID),
        (_OTHER, mode & 7, _NO_ID),
    ]
