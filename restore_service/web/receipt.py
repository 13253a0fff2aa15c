"""The starter's receipt in a browser: a cookie that watches and undoes one restore.

A restore ends every session, the starter's too; this cookie goes on. No script reads it. Its secret
follows from the restore's id and from a random seed that the browser keeps: a form that is sent twice
asks for the same restore with the same receipt, whichever of the two answers arrives.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from flask import Response

from restore_service.context import RestoreContext
from restore_service.events import ENDED
from restore_service.receipts import PREFIX
from serving.access.cookies import RECEIPT_COOKIE, read_cookie, set_cookie

SEED_COOKIE: Final = "starter"
_SEED_BYTES: Final = 32
_KEPT_S: Final = 7 * 24 * 3600


@dataclass(frozen=True)
class Starter:
    """The browser of whoever starts a restore: the seed of its receipts."""

    seed: str = field(repr=False)

    def secret_of(self, restore_id: str) -> str:
        """Return the secret of the receipt of one restore."""
        key = self.seed.encode("utf-8", "surrogateescape")
        return hmac.new(key, f"receipt {restore_id}".encode(), hashlib.sha256).hexdigest()

    def sha256_of(self, restore_id: str) -> str:
        """Return what the command to start it carries."""
        return hashlib.sha256(self.secret_of(restore_id).encode("ascii")).hexdigest()


def present_starter(context: RestoreContext) -> Starter:
    """Return the present request's browser; one that has no seed yet gets one."""
    known = read_cookie(SEED_COOKIE, context.settings.place.instance_id)
    return Starter(known or secrets.token_urlsafe(_SEED_BYTES))


def keep_seed(context: RestoreContext, answer: Response, starter: Starter) -> Response:
    """Let the browser keep its seed, before it sends a form that starts something."""
    instance_id = context.settings.place.instance_id
    set_cookie(answer, SEED_COOKIE, instance_id, starter.seed, max_age_s=_KEPT_S)
    return answer


def give_receipt(
    context: RestoreContext, answer: Response, restore_id: str, starter: Starter
) -> Response:
    """Let the browser keep the receipt of a restore that it has started, or is about to."""
    instance_id = context.settings.place.instance_id
    value = f"{PREFIX}{restore_id}.{starter.secret_of(restore_id)}"
    set_cookie(answer, RECEIPT_COOKIE, instance_id, value, max_age_s=_KEPT_S)
    return keep_seed(context, answer, starter)


def watches_another(context: RestoreContext, restore_id: str) -> bool:
    """Tell whether the browser holds the receipt of another restore that is not over."""
    held = read_cookie(RECEIPT_COOKIE, context.settings.place.instance_id) or ""
    try:
        named = str(UUID(held.removeprefix(PREFIX).partition(".")[0]))
    except ValueError:
        return False
    if named == restore_id:
        return False
    with context.transaction("looking for the restore") as conn:
        if not context.history.exists(conn, named):
            return False
        return context.history.get(conn, named)["state"] not in ENDED
