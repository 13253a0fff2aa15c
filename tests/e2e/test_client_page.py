"""The example on the client's page does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.embedded.folder import open_state
from shared.archive.keyfile import check_key_file
from shared.secretfiles import read_secret_file
from tests.plugins.live import Live

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
NAMED = ('"https://backup.example.org"', '"secryn-token..."')


def test_the_example_makes_a_backup_and_stores_file_and_key(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    token = read_secret_file(open_state(live.stack.state).token).decode("ascii").strip()
    for named, here in zip(NAMED, (live.services.backups.connection.base_url, token), strict=True):
        assert named in example
        example = example.replace(named, repr(here))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(PAGE), "exec"), {})
    offset, sha256 = capsys.readouterr().out.split()
    (found,) = (
        one for one in live.services.backups.list(limit=1)["backups"] if one["sha256"] == sha256
    )
    assert (str(found["offset"]), found["reason"]) == (offset, "before the upgrade")
    check_key_file(Path("backup.key"), Path("backup.age"))
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("backup.*")} == {"0o600"}
