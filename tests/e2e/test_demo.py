"""`make demo`: every claim is checked, the page says so, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def test_the_demonstration_proves_the_main_job_and_leaves_only_its_page(tmp_path: Path) -> None:
    before = demonstrations()
    page = tmp_path / "a page.html"
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--report", str(page)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("[equal]") == 3
    text = page.read_text(encoding="utf-8")
    assert text.count("<strong>Equal:</strong>") == 3
    whole = text[text.index("the whole instance") :]
    assert whole.count('class="same"') == 3
    assert whole.count('class="other"') == 1
    for secret in ("AGE-SECRET-KEY", "Bearer"):
        assert secret not in text + done.stdout + done.stderr
    assert demonstrations() == before


def demonstrations() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("secryn-demo-*"))
