"""Names as people give them: projects, vaults, users, roles, and not only in ASCII."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

PROJECTS: Final = (
    ("payments", "Card and bank payments"),
    ("web-shop", "The public shop"),
    ("Buchhaltung", "Rechnungswesen und Löhne"),
    ("données-clients", "Base clients et préférences"),
    ("mobile app", "iOS and Android"),
    ("プラットフォーム", "共通基盤チーム"),
    ("аналитика", "Хранилище данных и отчёты"),
    ("infrastructure", "Clusters, networks, machines"),
    ("ml-research", "Training jobs and model registry"),
    ("partner-api 🤝", "What partners call"),
)
VAULTS: Final = ("production", "staging", "development", "ci", "break-glass", "certificates")
# Nobody but those with a binding to the vault itself sees these.
RESTRICTED_VAULTS: Final = frozenset({"production", "break-glass"})
TEAMS: Final = ("checkout", "core", "data", "mobile", "platform", "sécurité", "ventas", "研究")
TIERS: Final = ("gold", "silver", "bronze")

_FIRST_NAMES: Final = (
    *("Anna", "Bengt", "Chloë", "Dmitri", "Élodie", "Farid", "Grażyna", "Hiroshi", "Ingrid"),
    *("João", "Katarzyna", "Łukasz", "Mårten", "Nguyễn", "Ólafur", "Priya", "Quentin", "Rosa"),
    *("Søren", "Thandiwe", "Ümit", "Valentina", "Wei", "Ximena", "Yusuf", "Žofia"),
)
_LAST_NAMES: Final = (
    *("Almeida", "Bauer", "Çelik", "Dubois", "Eriksson", "Fernández", "Gupta", "Hansen"),
    *("Ivanova", "Jovanović", "Kowalski", "Li", "Müller", "Nakamura", "O'Brien", "Popescu"),
    *("Quispe", "Rossi", "Şahin", "Tanaka", "Uzun", "Virtanen", "Wójcik", "Xu", "Yılmaz"),
)
_SECRET_SUBJECTS: Final = (
    *("billing", "cache", "catalog", "crm", "email", "events", "gateway", "identity", "invoices"),
    *("ledger", "media", "metrics", "orders", "queue", "reports", "search", "sessions", "sms"),
    *("stock", "tickets", "warehouse", "webhooks", "größe", "überweisung", "пароль", "秘密"),
)


@dataclass(frozen=True)
class Person:
    """A user before it becomes an event."""

    username: str
    display_name: str
    email: str


def suffix(seed: int, copy: int) -> str:
    """Return what keeps the names of another seed and of every further copy apart."""
    return (f"-s{seed}" if seed != 1 else "") + (f"-{copy:05d}" if copy else "")


def person(number: int, tail: str) -> Person:
    """Return the person with this number; usernames are ASCII, names are not."""
    first = _FIRST_NAMES[number % len(_FIRST_NAMES)]
    last = _LAST_NAMES[(number * 7 + number // len(_FIRST_NAMES)) % len(_LAST_NAMES)]
    username = f"user{number:03d}{tail}"
    return Person(username, f"{first} {last}", f"{username}@example.org")


def secret_name(rng: Random, kind: str, number: int) -> str:
    """Return a name that says what the secret is for, unique by its number."""
    return f"{rng.choice(_SECRET_SUBJECTS)}/{kind.replace('_', '-')}-{number:03d}"
