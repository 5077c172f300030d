"""What the reader sees while the benchmark runs."""

from __future__ import annotations

import sys
import time


class Progress:
    """Says what is going on. On a terminal the present step is one line that is rewritten."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._shown = False

    def say(self, text: str = "") -> None:
        """Prints text that stays."""
        self._clear()
        print(text, flush=True)

    def step(self, text: str) -> None:
        """Shows the present step; nowhere but on a terminal."""
        if self._live:
            self._clear()
            print(text[:110], end="", flush=True)
            self._shown = True

    def _clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="")
            self._shown = False


class Estimate:
    """How long the rest takes, judged by what the steps took so far."""

    def __init__(self, first_guess: float) -> None:
        self._left = 0
        self._done = 0
        self._guess = first_guess
        self._start = time.monotonic()

    def expect(self, steps: int) -> None:
        """Says how many steps are left."""
        self._left = steps

    def done(self) -> None:
        """Counts a step."""
        self._left -= 1
        self._done += 1

    def __str__(self) -> str:
        each = self._guess
        if self._done:
            each = (time.monotonic() - self._start) / self._done
        left = max(0.0, each * self._left)
        return f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
