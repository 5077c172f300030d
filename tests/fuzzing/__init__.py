"""The differential fuzzer: random programs must see the same on CPython's loop and on aioxide.

    python -m tests.fuzzing --seeds 1000 --start 0 --kind tcp --shrink

A seed is a program (`kinds.draw`): a list of steps, some of which hold steps that are performed
inside a callback.  A program runs on a loop (`running.run`) and what it sees is its trace: what
each operation returned or raised, each callback, each report to the exception handler, each warning
and log record, and what is left behind.  `judging.judge` runs it on both loops and compares.

What makes two traces comparable, although the kernel decides when bytes arrive and in how many
pieces:

* A trace has many lines, one for each thing that is in one order by itself: the calls of one
  protocol, the callbacks that the program schedules, one task.  Lines are not compared with each
  other, but for the moment (below) in which something happened.
* Bytes received one after the other are one entry.  Each direction of a connection carries a
  pattern of its own, so an entry says how many bytes there were and that they were the right ones.
* The step `Settle` waits until everything that is under way has happened, and begins the next
  moment.  Between two of them a program may do things that race.
* A program that races with itself is not judged: the oracle is asked again in a bad mood
  (`moods.Moody`: late, shuffled events, and bytes in small pieces), and if that changes the trace
  CPython allows more than one, and the program is discarded.

Where CPython's loop itself is at fault, or an older version of it, a step does not do what shows
that, and says why.  A program that has shown a fault of aioxide is kept, shrunk, in
`regressions.py`.

The modules, each of which uses those before it: `programs` (what a program is), `world` (a running
program), `ends` (ends of connections), then the steps (`callbacks`, `connections`, `descriptors`,
`servers`, `streams`, `datagrams`, `pipes`), `kinds` (which steps a seed is made of), `running`,
`moods`, `judging`, `shrinking`.  `faults` are loops that the fuzzer must find out.
"""
