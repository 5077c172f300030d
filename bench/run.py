#!/usr/bin/env python3
"""The benchmark's command: see README.md beside this file, or `run.py --help`."""

import sys

from aioxide_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
