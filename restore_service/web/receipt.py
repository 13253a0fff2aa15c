"""The starter's receipt in a browser: a cookie that watches and undoes one restore.

A restore ends every session, the starter's too; this cookie goes on. No script reads it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

from flask import Response, make_response
from werkzeug.wrappers import Response as BaseResponse

from restore_service.context import RestoreContext
from restore_service.receipts import PREFIX
from serving.access.cookies import RECEIPT_COOKIE, set_cookie

_SECRET_BYTES: Final = 32
_KEPT_S: Final = 7 * 24 * 3600


@dataclass(frozen=True)
class Secret:
    """The secret of a receipt, and what the service keeps of it."""

    text: str = field(repr=False)

    @property
    def sha256(self) -> str:
        """Return what the command carries."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()


def new_secret() -> Secret:
    """Make the secret of one receipt."""
    return Secret(secrets.token_urlsafe(_SECRET_BYTES))


def give_receipt(
    context: RestoreContext, response: BaseResponse, restore_id: str, secret: Secret
) -> Response:
    """Let the browser keep the receipt of a restore that it has started."""
    answer = make_response(response)
    instance_id = context.settings.place.instance_id
    value = f"{PREFIX}{restore_id}.{secret.text}"
    set_cookie(answer, RECEIPT_COOKIE, instance_id, value, max_age_s=_KEPT_S)
    return answer
