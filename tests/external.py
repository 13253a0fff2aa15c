"""Run tests with ``--stack=external`` against servers of ours that were there before them.

    python -m tests.external tests/integration/test_event_store.py ...

To pytest they are what an operator's servers are: a superuser's URL, an administrator's settings.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import tomli_w
from psycopg import conninfo

from deploy.embedded.database import read_password
from tests.plugins.kafka import embedded_kafka
from tests.plugins.postgres import embedded_postgres


def main(arguments: list[str]) -> int:
    """Return pytest's exit code."""
    postgres, kafka = (Path(tempfile.mkdtemp(prefix="secryn-test-")) for _ in range(2))
    try:
        with embedded_postgres(postgres) as store, embedded_kafka(kafka) as broker:
            config = kafka / "administrator.toml"
            administrator = broker.administrator.model_dump(mode="json", exclude_none=True)
            config.write_text(tomli_w.dumps({"kafka": administrator}))
            # Within this process, so that the URL with its password is nobody's argument.
            return pytest.main(
                [
                    "--stack=external",
                    f"--postgres-url={_url(store.dsn)}",
                    f"--kafka-config={config}",
                    # This module came by the fixtures before pytest could.
                    "-Wignore::pytest.PytestAssertRewriteWarning",
                    *arguments,
                ]
            )
    finally:
        shutil.rmtree(postgres)
        shutil.rmtree(kafka)


def _url(dsn: str) -> str:
    named = {name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items()}
    named["password"] = read_password(Path(named.pop("passfile")))
    return conninfo.make_conninfo("", **named)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
