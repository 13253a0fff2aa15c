"""What our own secrets look like where they stand in a text: known by their shape alone."""

from __future__ import annotations

import re
from typing import Final

# A name of a field or of a parameter behind which a secret stands.
SECRET_NAME: Final = re.compile(
    r"(^|_)(token|password|passphrase|secret|secrets|identity|key|keys|private|sealed|authorization)"
    r"($|_)(?!id$|file$|path$|fingerprint$)",
    re.IGNORECASE,
)
# API tokens and receipts say what they are.
NAMED: Final = r"secryn-(?:token|receipt)\.[^\s\"'&<>]+"
# Other tokens and cookies are the base64url of 32 random bytes; so are fingerprints, which say that.
RANDOM: Final = (
    r"(?-i:(?<![A-Za-z0-9_-])(?<!SHA256:)(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*[a-z])"
    r"[A-Za-z0-9_-]{43}(?![A-Za-z0-9_=-]))"
)
# Secret keys of age, and private keys in PEM.
PRIVATE_KEY: Final = r"AGE-SECRET-KEY-[A-Z0-9-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END|$)"
