"""The command `publish`: the results of runs, as README.md shows them.

Every figure on that page comes from a results.json; none is typed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from . import markdown, overview, record
from .cargo import SetupError
from .progress import Progress

# What stands on the page between these is written by this command.
BEGIN = "<!-- figures -->"
END = "<!-- end of figures -->"

# The pictures of a run: the name of the file, its heading, and the sections that it shows.
PICTURES = (
    (
        "servers",
        "Servers in Python: CPU time per request, relative to the best peer",
        ("Servers", "Web servers", "Bulk", "TLS"),
    ),
    (
        "loop",
        "Latency, memory and the loop alone, relative to the best peer",
        (
            "Latency of a single connection",
            "Memory of idle connections",
            "In the process, without a network",
        ),
    ),
    (
        "rust",
        "Servers in Rust: CPU time per request, and latency, relative to the best peer",
        ("From Rust",),
    ),
)


def publish(results: Sequence[Path], folder: Path, page: Path) -> int:
    """Writes the pictures and the full tables to the folder, and the page between its marks."""
    progress = Progress()
    runs = [record.read(path) for path in results]
    slugs = [markdown.slug(run) for run in runs]
    if twice := [slug for slug in slugs if slugs.count(slug) > 1]:
        raise SetupError(f"two of the runs are of {twice[0]}")
    before, after = around_marks(page)
    folder.mkdir(parents=True, exist_ok=True)
    # What an earlier call has published is not what this one is about.
    for old in [*folder.glob("*.svg"), *folder.glob("*.md")]:
        old.unlink()
    base = Path(os.path.relpath(folder, page.parent))
    extracts = []
    for number, (run, slug) in enumerate(zip(runs, slugs, strict=True)):
        pictures = {(base / name).as_posix(): label for name, label in draw(run, slug, folder)}
        full = folder / f"{slug}.md"
        full.write_text(markdown.full_page(run))
        link = (base / full.name).as_posix()
        extracts.append(markdown.extract(run, pictures, link, opened=number == 0))
    page.write_text("\n\n".join([before + BEGIN, *extracts, END + after]))
    progress.say(f"written: {page}, and {len(list(folder.iterdir()))} files in {folder}")
    return 0


def draw(run: record.Run, slug: str, folder: Path) -> list[tuple[str, str]]:
    """The run's pictures: their names, and what they show."""
    drawn = []
    for part, heading, sections in PICTURES:
        shown = [result for result in run.results if result.row.section in sections]
        if not shown:
            continue
        name = f"{slug}-{part}.svg"
        how = f"median of {run.settings['rounds']} interleaved rounds; shorter is better"
        built = run.machine["rustc"].partition(" (")[0] if part == "rust" else markdown.title(run)
        subtitle = f"{built}, {run.machine['cpu']}, {run.machine['kernel']}; {how}"
        (folder / name).write_text(overview.picture(shown, heading, subtitle))
        drawn.append((name, heading))
    return drawn


def around_marks(page: Path) -> tuple[str, str]:
    """What stands on the page before and after the marks."""
    try:
        text = page.read_text()
    except OSError as error:
        raise SetupError(f"{page} cannot be read: {error}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SetupError(f"{page} has no marks {BEGIN} and {END}")
    return before, after
