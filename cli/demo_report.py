"""The page that the demonstration leaves behind, for somebody who has never seen any of this."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Secryn: backed up, damaged, restored, proven equal</title>
<style>
:root {{ color-scheme: light dark; --same: #2e7d4f; --other: #b3541e; --line: #8884; }}
@media (prefers-color-scheme: dark) {{ :root {{ --same: #6cc494; --other: #f0a06a; }} }}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 3rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; max-width: 44rem; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .5rem; }}
p {{ max-width: 44rem; }}
.proof {{ border-left: 4px solid var(--same); padding: .4rem 1rem; margin: 1rem 0; }}
.proof small {{ display: block; opacity: .75; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }}
th:first-child, td:first-child {{ text-align: left; }}
thead th {{ vertical-align: bottom; font-weight: 600; font-size: .9rem; }}
td small {{ font: 12px ui-monospace, monospace; opacity: .75; margin-left: .6rem; }}
.same {{ color: var(--same); }} .other {{ color: var(--other); }}
ol {{ list-style: none; padding: 0; }}
li {{ margin: 1rem 0; }}
pre {{ font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap;
  opacity: .8; margin: .15rem 0; }}
.took {{ float: right; font-variant-numeric: tabular-nums; opacity: .7; padding-left: 1rem; }}
</style></head><body>
<h1>A secrets manager was backed up, damaged, restored, lost and brought back. Each time it is equal
to what it was.</h1>
<p>Everything on this page ran on this machine just now, on a real Apache Kafka and a real
PostgreSQL: {seconds:.0f} seconds, {folder_note}. The instance held passwords, keys, certificates,
users and roles. One backup made <strong>one file</strong> and <strong>one key</strong>; nothing else
was used to bring it back, the second time on an empty machine with keys of its own.</p>
{proofs}
<h2>The instance at four moments</h2>
<p>Rows of every table, and the first digits of a SHA-256 digest over all of them.
<span class="same">= the same as at the backup</span>,
<span class="other">≠ another content</span>.</p>
<div class="scroll"><table><thead><tr><th>table</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>
<h2>What was run</h2>
<p>The commands are those that you would type; <code>$WORK</code> is a folder that is gone again.</p>
<ol>{steps}</ol>
<h2>Your turn</h2>
<pre>make up
. .venv/bin/activate
secryn sample load
secryn backup create --wait --key-file backup.key</pre>
<p>starts a stack that stays and makes your first backup; the README tells the rest.</p>
</body></html>
"""


class StepLike(Protocol):
    """What the page needs of a step."""

    title: str
    command: str
    seconds: float
    result: str


def write_report(
    path: Path,
    steps: Sequence[StepLike],
    proofs: Mapping[str, str],
    moments: Mapping[str, Mapping[str, Any]],
    *,
    seconds: float,
    folder: Path,
) -> None:
    """Write the page to ``path``; every text in it is escaped.

    ``moments`` are documents of ``instance digest`` by what they are called; the first is what
    the others are compared with.
    """
    shown_proofs = "".join(
        f'<div class="proof"><strong>Equal:</strong> {html.escape(claim)}'
        f"<small>{html.escape(evidence)}</small></div>"
        for claim, evidence in proofs.items()
    )
    shown_steps = "".join(
        f'<li><span class="took">{step.seconds:.1f} s</span><strong>{html.escape(step.title)}'
        f"</strong><pre>$ {html.escape(step.command.replace(str(folder), '$WORK'))}</pre>"
        f"{html.escape(step.result)}</li>"
        for step in steps
    )
    path.write_text(
        PAGE.format(
            seconds=seconds,
            folder_note=f"{len(steps)} commands",
            proofs=shown_proofs,
            heads="".join(f"<th>{html.escape(name)}</th>" for name in moments),
            rows=_rows(list(moments.values())),
            steps=shown_steps,
        ),
        encoding="utf-8",
    )


def _rows(documents: Sequence[Mapping[str, Any]]) -> str:
    first = documents[0]
    lines = [
        _row(name, [(d["tables"][name]["rows"], d["tables"][name]["digest"]) for d in documents])
        for name in first["tables"]
    ]
    totals = [(sum(t["rows"] for t in d["tables"].values()), d["digest"]) for d in documents]
    return "".join([*lines, _row("the whole instance", totals)])


def _row(name: str, cells: Sequence[tuple[int, str]]) -> str:
    shown = "".join(
        f'<td>{rows:,}<small class="{"same" if digest == cells[0][1] else "other"}">'
        f"{'=' if digest == cells[0][1] else '≠'} {html.escape(digest[:8])}</small></td>"
        for rows, digest in cells
    )
    return f"<tr><td>{html.escape(name)}</td>{shown}</tr>"
