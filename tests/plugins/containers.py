"""Options for containers: where the integration tests get their servers, and Compose itself.

    pytest --containers tests/containers     # docker-compose.yml, really run
    pytest --stack=containers ...            # Kafka and PostgreSQL in containers
    pytest --stack=external ...              # Kafka and PostgreSQL that run already

tests/containers is left out of every run that does not ask for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.engine import Engine, NoEngine, find_engine

EMBEDDED, CONTAINERS, EXTERNAL = "embedded", "containers", "external"
FOLDER = Path(__file__).parents[1] / "containers"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("secryn")
    group.addoption("--containers", action="store_true", help="run tests/containers as well")
    group.addoption(
        "--stack",
        choices=(EMBEDDED, CONTAINERS, EXTERNAL),
        default=EMBEDDED,
        help="where the fixtures `kafka` and `postgres` come from",
    )
    group.addoption("--postgres-url", help="with --stack=external: a superuser's URL")
    group.addoption(
        "--kafka-config",
        help="with --stack=external: a TOML file, its section [kafka] an administrator's settings",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--stack") != EXTERNAL:
        return
    missing = [name for name in ("--postgres-url", "--kafka-config") if not config.getoption(name)]
    if missing:
        raise pytest.UsageError(f"--stack=external also needs {' and '.join(missing)}")


def pytest_report_header(config: pytest.Config) -> str:
    return f"stack: {config.getoption('--stack')}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path == FOLDER and not config.getoption("--containers"):
        return True
    return None


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The container engine; without one the test fails and says how to get one."""
    try:
        return find_engine()
    except NoEngine as error:
        pytest.fail(str(error))
