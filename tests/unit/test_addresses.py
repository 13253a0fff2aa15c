"""An address goes on without what is shaped like a secret of ours, and else as it was."""

from __future__ import annotations

import secrets
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest

from serving.addresses import holds_secret, page_within, without_secrets
from serving.paging import encode_cursor
from shared.archive.age import HybridIdentity, X25519Identity
from shared.messages import SigningKey

SECRETS = {
    "an operator's token": secrets.token_urlsafe(32),
    "an API token": f"secryn-token.{uuid4()}.{secrets.token_urlsafe(32)}",
    "a receipt": f"secryn-receipt.{uuid4()}.{secrets.token_urlsafe(32)}",
    "a piece of an API token": f"secryn-token.{uuid4()}.x",
    "a token with something behind it": secrets.token_urlsafe(32) + "ab",
    "a key": X25519Identity(bytes(range(32))).encode(),
    "a post-quantum key": HybridIdentity(bytes(range(32))).encode(),
    "a header": f"Bearer {secrets.token_urlsafe(12)}",
}
# What is the same in every process: their names are made of them.
SOME_ID = UUID("7d5f3dc0-4ab1-4e2a-9a57-0d1c5b7e8f21")
HARMLESS = [
    "/admin/backups",
    f"/admin/backups/{SOME_ID}/key",
    "/admin/backups?state=created&state=verified&q=a%20b&sort=size&order=",
    f"/admin/operations?cursor={encode_cursor(['2026-11-29T17:00:00Z', str(SOME_ID), 12])}",
    f"/admin/audit?resource={SOME_ID}&actor=user:anna&since=2026-11-29",
    f"/admin/audit?q={'0123456789abcdef' * 4}",
    f"/admin/backups?key_fingerprint={SigningKey(bytes(32)).fingerprint}",
    "/admin/schedule#retention",
]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
class TestSecrets:
    def test_a_parameter_with_it_is_left_out_and_the_others_are_kept(self, secret: str) -> None:
        for value in (quote(secret), quote(quote(secret)), quote(f"/admin/x?y={quote(secret)}")):
            for query in (f"a=1&x={value}&b=2", f"a=1&b=2&{value}", f"{value}=&a=1&b=2"):
                assert without_secrets(f"/admin/backups?{query}") == "/admin/backups?a=1&b=2"

    def test_a_path_with_it_leads_nowhere(self, secret: str) -> None:
        for path in (f"/admin/{secret}", f"/admin/{quote(quote(secret))}/x?a=1"):
            assert without_secrets(path) is None

    def test_a_fragment_with_it_is_left_out(self, secret: str) -> None:
        assert without_secrets(f"/admin/backups?a=1#{quote(secret)}") == "/admin/backups?a=1"


@pytest.mark.parametrize(
    "name", ["token", "access_token", "api-token", "key", "Password", "secret"]
)
def test_whatever_stands_behind_a_secrets_name_is_left_out(name: str) -> None:
    assert without_secrets(f"/admin/x?{name}=short&a=1") == "/admin/x?a=1"
    assert without_secrets(f"/admin/x?{name}=short") == "/admin/x"
    nested = quote(f"/admin/y?{name}=short")
    assert without_secrets(f"/admin/prove?next={nested}") == "/admin/prove"


@pytest.mark.parametrize("address", HARMLESS)
def test_any_other_address_stays_as_it_is(address: str) -> None:
    assert without_secrets(address) == address


def test_what_is_encoded_without_end_is_not_believed() -> None:
    text = secrets.token_urlsafe(32).replace("-", "%2d")
    for _ in range(9):
        text = quote(f" {text}")
    assert holds_secret(text)


@pytest.mark.parametrize("dots", [".", "..", "%2e", "%2E%2e", ".%2e", "%2e.", "%252e%252e"])
def test_a_page_of_ours_is_none_that_leads_out_of_where_ours_are(dots: str) -> None:
    for path in (
        f"/admin/{dots}/api/v1/x", f"/admin/{dots}", f"/admin/backups/{dots}?a=1",
        f"/admin/{dots}#x", f"/admin/{dots}%2fapi", f"/admin/x%5c{dots}%5Cy", f"/admin/%2f{dots}/x",
    ):  # fmt: skip
        assert page_within(path, "/admin/home") == "/admin/home"
    # It is the path that leads somewhere.
    for path in (f"/admin/x?next=/{dots}/", f"/admin/x#/{dots}/", f"/admin/x{dots}y", "/admin/..."):
        assert page_within(path, "/admin/home") == path
