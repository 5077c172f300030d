"""A drop-in asyncio event loop: Python's asyncio networking system, rebuilt in Rust.

Run a program on it in one of these ways::

    aioxide.run(main())                                          # like asyncio.run
    asyncio.run(main(), loop_factory=aioxide.new_event_loop)     # Python 3.12 and newer
    python -m aioxide program.py                                 # an unchanged program

Everything else is asyncio's own: tasks, futures, streams, locks, timeouts.
"""

# First: an interpreter that it refuses is not to import anything else. With asyncio in it, an
# isolated one of Python 3.12.1 ends its process with a corrupt heap, with or without this package.
from aioxide._aioxide import __version__

# isort: split
from aioxide import _streams as _streams
from aioxide._loop import Loop
from aioxide._policy import EventLoopPolicy, install
from aioxide._runner import new_event_loop, run
from aioxide._server import Server
from aioxide._tls import TlsSession, tls_session

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "Server",
    "TlsSession",
    "__version__",
    "install",
    "new_event_loop",
    "run",
    "tls_session",
]
