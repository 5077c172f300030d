"""The command `publish`: the results of runs, as README.md shows them.

Every figure on that page comes from a results.json; none is typed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from . import catalogue, markdown, overview, profile_page, record
from .cargo import SetupError
from .profile import read
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


def publish(results: Sequence[Path], profiles: Sequence[Path], folder: Path, page: Path) -> int:
    """Writes the pictures, the full tables and the profiles to the folder, and the page between its
    marks. A profile that an earlier call has published stays where no other is given."""
    progress = Progress()
    runs = [record.read(path) for path in results]
    slugs = [markdown.slug(run) for run in runs]
    if twice := [slug for slug in slugs if slugs.count(slug) > 1]:
        raise SetupError(f"two of the runs are of {twice[0]}")
    of_profiles = {markdown.slug_of(found.versions): found for found in map(read, profiles)}
    if strangers := [slug for slug in of_profiles if slug not in slugs]:
        raise SetupError(f"there is a profile, and no run, of {strangers[0]}")
    before, after = around_marks(page)
    folder.mkdir(parents=True, exist_ok=True)
    # What an earlier call has published is not what this one is about.
    kept = [folder / profile_name(slug) for slug in slugs]
    for old in [*folder.glob("*.svg"), *folder.glob("*.md")]:
        if old not in kept:
            old.unlink()
    base = Path(os.path.relpath(folder, page.parent))
    extracts = []
    for number, (run, slug) in enumerate(zip(runs, slugs, strict=True)):
        pictures = {(base / name).as_posix(): label for name, label in draw(run, slug, folder)}
        full = folder / f"{slug}.md"
        full.write_text(markdown.full_page(run))
        link = (base / full.name).as_posix()
        profile = folder / profile_name(slug)
        if slug in of_profiles:
            rows = catalogue.rows()
            profile.write_text(profile_page.page(of_profiles[slug], rows, markdown.title(run)))
        to_profile = (base / profile.name).as_posix() if profile.exists() else None
        extracts.append(markdown.extract(run, pictures, link, to_profile, opened=number == 0))
    page.write_text("\n\n".join([before + BEGIN, *extracts, END + after]))
    progress.say(f"written: {page}, and {len(list(folder.iterdir()))} files in {folder}")
    return 0


def profile_name(slug: str) -> str:
    return f"{slug}-profile.md"


def draw(run: record.Run, slug: str, folder: Path) -> list[tuple[str, str]]:
    """The run's pictures: their names, and what they show."""
    drawn = []
    for part, heading, sections in PICTURES:
        shown = [result for result in run.results if result.row.section in sections]
        if not shown:
            continue
        name = f"{slug}-{part}.svg"
        how = f"medians of {run.settings['rounds']} rounds or more; shorter is better"
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
