"""The benchmark's runner: what is compared, how it is measured, how it is shown.

The modules, each standing on those above it:

- `catalogue`: the rows and the contenders, as data
- `process`: child processes that are always ended and reaped
- `measure`: one server, one client, one measurement
- `rounds`: many measurements, with the contenders interleaved
- `summary`: medians, spreads and ratios; no I/O
- `table`, `plot`, `record`: a summary as text, as SVG, as JSON
- `cargo`, `environment`, `prepare`: the programs to compare, built or installed
- `machine`: facts about where the run took place
- `progress`: what the reader sees meanwhile
- `compare`, `side_by_side`, `idle_memory`: the commands, which `cli` reads from the command line

Times are in seconds unless a name says otherwise. Only the standard library is used.
"""
