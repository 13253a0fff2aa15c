"""Make ``jars.lock`` anew with Maven: ``python -m deploy.embedded.lock_jars``.

Maven resolves what Kafka needs at run time; the SHA-256 are those of the files it fetched. Only
whoever raises Kafka's version runs this; a user of the stack needs no Maven.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.embedded.jars import LOCK_FILE

KAFKA = ("org.apache.kafka", "kafka_2.13", "4.4.0")
LOG4J = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.3")
_DEPENDENCY = re.compile(r"^\s+([\w.-]+):([\w.-]+):jar:([\w.-]+):runtime\b", re.MULTILINE)


def main() -> int:
    """Write the lock; return the exit code."""
    maven = shutil.which("mvn")
    if maven is None:
        print("`mvn` is needed to make the lock anew", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pom.xml").write_text(_pom(), encoding="utf-8")
        for goal in (
            ["dependency:list", "-DoutputFile=list.txt", "-DincludeScope=runtime"],
            ["dependency:copy-dependencies", "-DoutputDirectory=jars", "-DincludeScope=runtime"],
        ):
            subprocess.run([maven, "-q", "-B", *goal], cwd=folder, check=True)
        lines = lock_lines((folder / "list.txt").read_text(encoding="utf-8"), folder / "jars")
    title = (
        f"# Apache Kafka {KAFKA[2]} and what it needs at run time: group:artifact:version sha256"
    )
    LOCK_FILE.write_text("\n".join([title, "# Made by `make kafka-lock`.", *lines, ""]), "ascii")
    print(f"{LOCK_FILE.name}: {len(lines)} jars")
    return 0


def lock_lines(listing: str, jars: Path) -> list[str]:
    """Return the lock's lines, sorted, for Maven's ``listing`` of the files in ``jars``."""
    lines = []
    for group, artifact, version in _DEPENDENCY.findall(listing):
        content = (jars / f"{artifact}-{version}.jar").read_bytes()
        lines.append(f"{group}:{artifact}:{version} {hashlib.sha256(content).hexdigest()}")
    return sorted(lines)


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version><scope>runtime</scope></dependency>"
        for group, artifact, version in (KAFKA, LOG4J)
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>secryn</groupId>"
        "<artifactId>kafka-lock</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


if __name__ == "__main__":
    sys.exit(main())
