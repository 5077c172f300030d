"""The Python suite: every case runs on CPython's own loop and on aioxide."""
