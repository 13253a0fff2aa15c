"""The page that the demonstration leaves behind."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Secryn: backed up, damaged, restored, proven equal</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 54rem; margin: 3rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; }}
.proof {{ border-left: 4px solid #2e7d4f; padding: .5rem 1rem; margin: 1rem 0; }}
.proof small {{ display: block; opacity: .75; }}
ol {{ list-style: none; padding: 0; }}
li {{ margin: 1.1rem 0; }}
code {{ display: block; font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere;
  opacity: .8; margin: .2rem 0; }}
.took {{ float: right; font-variant-numeric: tabular-nums; opacity: .7; }}
</style></head><body>
<h1>A live instance was backed up, damaged, restored, lost, and brought back. It is equal each time.</h1>
<p>Everything below ran for real on this machine: Apache Kafka, PostgreSQL, both services. It took
{seconds:.0f} seconds. The digest is computed over every row of every table.</p>
{proofs}
<h2>What was run</h2>
<ol>{steps}</ol>
<p>Next: <code>make up</code> starts a stack that stays; the README tells the rest.</p>
</body></html>
"""


class StepLike(Protocol):
    """What the page needs of a step."""

    title: str
    command: str
    seconds: float
    result: str


def write_report(
    path: Path, steps: Sequence[StepLike], proofs: Mapping[str, str], seconds: float
) -> None:
    """Write the page to ``path``; every text in it is escaped."""
    shown_proofs = "".join(
        f'<div class="proof"><strong>Equal:</strong> {html.escape(claim)}'
        f"<small>{html.escape(evidence)}</small></div>"
        for claim, evidence in proofs.items()
    )
    shown_steps = "".join(
        f'<li><span class="took">{step.seconds:.1f} s</span>{html.escape(step.title)}'
        f"<code>$ {html.escape(step.command)}</code>{html.escape(step.result)}</li>"
        for step in steps
    )
    path.write_text(
        PAGE.format(seconds=seconds, proofs=shown_proofs, steps=shown_steps), encoding="utf-8"
    )
