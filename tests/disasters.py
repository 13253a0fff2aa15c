"""What the tests of lost parts share: one stack, how a disk is lost, and docs/disasters.md."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

from shared.kafka import Kafka
from shared.messages import CloudEvent
from tests import typed
from tests.plugins.live import Json, stable_end
from tests.plugins.stack import COMMAND_TIMEOUT_S, StackUnderTest

ROOT = Path(__file__).parents[1]


def digest(stack: StackUnderTest) -> str:
    return str(json.loads(stack.secryn("instance", "digest").stdout)["digest"])


def instance(stack: StackUnderTest) -> Json:
    document: Json = json.loads(stack.secryn("instance", "show").stdout)
    return document


def write(stack: StackUnderTest) -> Json:
    """Write for half a second, wait until it is stored; return what was written."""
    done = stack.secryn("sample", "write", "--rate", "100", "--seconds", "0.5")
    document: Json = json.loads(done.stdout)
    return document


def backed_up(stack: StackUnderTest, folder: Path, *options: str) -> tuple[Json, Path]:
    """Make a backup; return it and its key file."""
    key = folder / f"{len(list(folder.iterdir()))}.key"
    done = stack.secryn("backup", "create", "--wait", "--key-file", str(key), *options)
    backup: Json = json.loads(done.stdout)
    return backup, key


def restored(stack: StackUnderTest, backup: Json, key: Path) -> Json:
    """Restore a backup of the storage; return how it ended."""
    done = stack.secryn(
        *("restore", "run", "--backup", backup["backup_id"], "--key-file", str(key)),
        *("--instance", stack.status()["instance_id"], "--yes"),
    )
    document: Json = json.loads(done.stdout)
    return document


def lose_the_log(stack: StackUnderTest) -> None:
    """Stop the stack, lose Kafka's disk and start it again; it comes up, and is not healthy."""
    stack.down()
    shutil.rmtree(stack.state / "kafka" / "data")
    stack.secryn("up", check=False)


def projector_reason(stack: StackUnderTest) -> str:
    return str(stack.process("projector")["reason"])


def published(stack: StackUnderTest, topic: str) -> list[str]:
    """Return the types of the events on a topic, in order."""
    kafka = Kafka(stack.kafka("admin"), client_id="test")
    name, found, position = kafka.topic(topic), list[str](), 0
    with kafka.admin() as admin, kafka.log_reader(name) as reader:
        end = stable_end(admin, name)
        reader.seek(0)
        while position < end:
            batch = reader.poll(1000, 0.5)
            position = batch.next_offset
            found += [CloudEvent.from_kafka(record).type for record in batch.records]
    return found


def follow(stack: StackUnderTest, name: str, **values: object) -> Json:
    """Type the commands of docs/disasters.md under ``<!-- run: NAME -->``, as they stand there.

    ``values`` are put in the place of the words in capitals; the id of the instance is typed where
    it is asked for. Every command must succeed; returns the last one's document.
    """
    page = (ROOT / "docs" / "disasters.md").read_text(encoding="utf-8")
    block = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", page, re.DOTALL)
    assert block is not None, name
    words = {"INSTANCE": stack.status()["instance_id"]} if "INSTANCE" in block[1] else {}
    words |= {word: str(value) for word, value in values.items()}
    document: Json = {}
    for line in block[1].splitlines():
        program, *arguments = shlex.split(line)
        assert program == "secryn"
        told = [words.get(word, word) for word in arguments]
        assert not [word for word in told if word.isupper()], told
        done = typed.secryn(
            [*told, "--state", str(stack.state), "--json"],
            stack.environment,
            COMMAND_TIMEOUT_S,
            given=f"{words.get('INSTANCE', '')}\n",
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        document = json.loads(done.stdout)
    return document
