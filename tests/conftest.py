"""Fixtures are plug-ins, one file per dependency: tests/plugins."""

pytest_plugins = [
    "tests.plugins.postgres",
    "tests.plugins.kafka",
    "tests.plugins.stack",
    "tests.plugins.instance",
]
