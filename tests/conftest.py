"""Fixtures are plug-ins, one file per dependency: tests/plugins."""

pytest_plugins = [
    "tests.plugins.containers",
    "tests.plugins.hypothesis_profile",
    "tests.plugins.long",
    "tests.plugins.postgres",
    "tests.plugins.kafka",
    "tests.plugins.stack",
    "tests.plugins.instance",
    "tests.plugins.given",
    "tests.plugins.live",
    "tests.plugins.logs",
    "tests.plugins.browser",
    "tests.plugins.faults",
    "tests.plugins.oidc",
]
