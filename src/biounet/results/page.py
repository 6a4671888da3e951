"""The page of a prediction: what was found in which image, how, and how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biounet.report.page import Block, Code, Figure, Numbers, Section, Table, Text, write_page
from biounet.results.request import Done
from biounet.settings import dotted
from biounet.words import counted


def write_prediction_page(
    path: Path, run: Mapping[str, Any], results: Sequence[Done], figures: Mapping[str, Figure], command: str
) -> None:
    """Write the page, whole or not at all. ``run``: the content of ``run.json``; ``command``: what was typed."""
    order = sorted(results, key=_worst_first)
    failed = sum(bool(done.error) for done in results)
    empty = sum(done.empty and not done.error for done in results)
    lead = f"{counted(len(results), 'image')}: " + (f"{failed} failed." if failed else "all done.")
    if empty:
        lead += f" In {empty} nothing was found."
    sections = [
        Section("Result", [_numbers(run, results), _inputs(order)]),
        Section("Pictures", _pictures(order, figures)),
        Section("Plan and checks", _plans(results)),
        Section("How to repeat it", _origin(run, command)),
        Section("For the methods section", [Code(run["methods"], "Ready to paste", wraps=True)]),
    ]
    write_page(path, title="biounet prediction", lead=lead, sections=sections)


def _worst_first(done: Done) -> tuple[bool, bool]:
    return (not done.error, not done.empty)


def _numbers(run: Mapping[str, Any], results: Sequence[Done]) -> Numbers:
    objects = [done.objects for done in results if done.objects is not None]
    seconds = run["seconds"]
    items: list[tuple[str, object, str]] = [("images", len(results), "")]
    if objects:
        items.append(("objects", f"{sum(objects):,}", ""))
    items.append(("time", f"{seconds['compute']:.1f} s", f"and {seconds['start_up']:.1f} s to start"))
    return Numbers(items)


def _inputs(order: Sequence[Done]) -> Table:
    rows = [[done.name, _outcome(done), done.objects, "x".join(map(str, done.shape)), done.seconds] for done in order]
    note = "Failed images first, then those in which nothing was found."
    return Table("Images", ["image", "outcome", "objects", "pixels", "seconds"], rows, note)


def _outcome(done: Done) -> str:
    if done.error:
        return f"failed: {done.error}"
    return "nothing found" if done.empty else "done before" if done.done_before else "done"


def _pictures(order: Sequence[Done], figures: Mapping[str, Figure]) -> list[Block]:
    chosen = [figures[done.name] for done in order if done.name in figures]
    spaced = ", evenly spaced" if len(chosen) < len(order) else ""
    return [Text(f"{len(chosen)} of {counted(len(order), 'image')}{spaced}."), *chosen]


def _plans(results: Sequence[Done]) -> list[Block]:
    plans = Counter(done.plan for done in results if done.plan)
    blocks: list[Block] = [Table("Plans", ["plan", "images"], [[plan, count] for plan, count in plans.most_common()])]
    blocks += blocks_of_seams(results)
    notes = Counter(note for done in results for note in done.notes)
    if notes:
        rows = [[note, count] for note, count in notes.most_common()]
        blocks.append(Table("What was decided and warned of", ["statement", "images"], rows))
    return blocks


def blocks_of_seams(results: Sequence[Done]) -> list[Block]:
    """What was found where tiles meet, by image, and how many images have no seam."""
    blocks: list[Block] = []
    checks = [(done.name, done.seams) for done in results if done.seams]
    checked = [(name, seams) for name, seams in checks if seams["windows"]]
    if checked:
        header = [key.replace("_", " ") for key in checked[0][1]]
        note = "Windows across borders of tiles, computed again as one piece."
        blocks.append(
            Table("Check of seams", ["image", *header], [[name, *seams.values()] for name, seams in checked], note)
        )
    if whole := len(checks) - len(checked):
        blocks.append(Text(f"Check of seams: {counted(whole, 'image')} of one tile, without seams."))
    return blocks


def _origin(run: Mapping[str, Any], command: str) -> list[Block]:
    facts = [
        ["model SHA-256", run["model_sha256"]],
        ["computed by", f"{run['engine']}, {run['precision']}"],
        *([name, _said(value)] for name, value in dotted(run["settings"]) if value not in (None, False)),
        *([f"version of {name}", str(value)] for name, value in run["versions"].items() if value),
        *(["note", note] for note in run["notes"]),
    ]
    table = Table("Settings and versions", ["what", "value"], facts)
    called = "Called from Python: the settings are the keywords of `biounet.predict`."
    return [Code(command, "Command") if command else Text(called), table]


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
