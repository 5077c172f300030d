"""The command: ``python -m tests.fuzzing --seeds 1000 --start 0 --kind tcp --shrink``."""

from __future__ import annotations

import argparse
import collections
import faulthandler
import sys
import time

import aioxide

from .judging import Verdict, is_racy, judge, oracle
from .kinds import KINDS, draw
from .programs import Program
from .running import run
from .shrinking import shrink

#: Seconds for one program, many times what any takes.
WATCHDOG = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many programs")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--kind", choices=KINDS, default="tcp")
    parser.add_argument("--shrink", action="store_true", help="shrink the first that differs")
    parser.add_argument("--all", action="store_true", help="go on after a difference")
    parser.add_argument("--show", action="store_true", help="print programs and their traces")
    parser.add_argument("--races", action="store_true", help="count the programs that race")
    arguments = parser.parse_args()
    verdicts: collections.Counter[Verdict] = collections.Counter()
    vain = 0
    began = time.monotonic()
    for seed in range(arguments.start, arguments.start + arguments.seeds):
        program = draw(arguments.kind, seed)
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)
        if arguments.show:
            show(program)
        if arguments.races:
            expected = run(program, oracle)
            racy = is_racy(program, expected)
            verdicts[Verdict.RACY if racy else Verdict.EQUAL] += 1
            continue
        judgement = judge(program, aioxide.new_event_loop)
        verdicts[judgement.verdict] += 1
        vain += any("in vain" in entry for line in judgement.expected.values() for entry in line)
        if judgement.verdict is Verdict.EQUAL:
            continue
        print(f"seed {seed}: {judgement.verdict.value}")
        if judgement.verdict is not Verdict.DIFFERENT:
            continue
        print(judgement, flush=True)
        if arguments.shrink:
            faulthandler.dump_traceback_later(30 * WATCHDOG, exit=True)
            small = shrink(program, differs)
            print(judge(small, aioxide.new_event_loop))
            print(small, flush=True)
        if not arguments.all:
            break
    faulthandler.cancel_dump_traceback_later()
    counts = ", ".join(f"{count} {verdict.value}" for verdict, count in verdicts.items())
    print(f"{counts}; {vain} waited in vain; {time.monotonic() - began:.0f} s")
    return Verdict.DIFFERENT in verdicts


def differs(program: Program) -> bool:
    return judge(program, aioxide.new_event_loop).verdict is Verdict.DIFFERENT


def show(program: Program) -> None:
    print(program)
    for line, entries in run(program, oracle).items():
        print(f"--- {line}")
        for entry in entries:
            print(f"    {entry}")


if __name__ == "__main__":
    sys.exit(main())
