"""The benchmark's runner: what is compared, how it is measured, how it is shown.

The modules, each standing on those above it:

- `catalogue`: the rows and the contenders, as data
- `process`: child processes that are always ended and reaped
- `measure`: one server, one client, one measurement; `idle_memory`: the same for rows of memory
- `rounds`: many measurements, with the contenders interleaved
- `summary`: medians, spreads and ratios; no I/O
- `table`, `plot`, `record`: a summary as text, as SVG, as JSON, and read from that
- `owners`, `perf`: whose a sample is (no I/O), and how samples are taken
- `overview`, `markdown`: what is published of a run, as SVG and as Markdown; `svg`: pieces of SVG
- `cargo`, `environment`, `prepare`: the programs to compare, built or installed
- `machine`: facts about where the run took place
- `progress`: what the reader sees meanwhile
- `compare`, `side_by_side`, `profile`, `publish`: the commands, which `cli` reads from the command
  line; `profile_page`: a profile as Markdown

Times are in seconds unless a name says otherwise. Only the standard library is used.
"""
