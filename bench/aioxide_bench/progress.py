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
    """How long the rest takes: the guesses of its steps, corrected by what those before took."""

    def __init__(self) -> None:
        # Guesses of what is left and of what was done, in seconds.
        self._left = 0.0
        self._done = 0.0
        self._start = time.monotonic()

    def expect(self, seconds: float) -> None:
        """Guesses what is left."""
        self._left = seconds

    def done(self, seconds: float) -> None:
        """Counts a step, of which this was the guess."""
        self._left -= seconds
        self._done += seconds

    def __str__(self) -> str:
        taken = time.monotonic() - self._start
        left = max(0.0, self._left * (taken / self._done if self._done else 1.0))
        return f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
