"""Fixtures of the suite: every test that asks for a loop runs once per kind of loop.

Rules of this folder:

* The parameter ``asyncio`` is CPython's own loop, the oracle; ``aioxide`` is the loop under test.
  One assertion serves both.  Where CPython has a known bug, the *oracle's* parameter carries the
  exception (markers ``oracle_since`` and ``oracle_never``); aioxide never does.
* A coroutine test (``async def test_...``) runs on the ``loop`` fixture.
* Nothing may be left behind: a test fails when the loop's exception handler was called and the test
  did not take the report (fixture ``errors``), when tasks are still pending, and when a socket,
  transport or loop is garbage-collected unclosed (ResourceWarning is an error).
* Nothing sleeps to synchronise and nothing can hang: a watchdog ends the test after WATCHDOG
  seconds, and the process if even that is not heard.

``--loop module:factory`` runs the tests on another loop instead, to see where that one differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import inspect
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from .running import Programs
from .support import Errors, LoopFactory, Run, T
from .tls import Certificates, Tls, in_use, sessions

#: Seconds a single test may take: far more than any needs, so that only a hang is caught.
WATCHDOG = 20

#: The loops that the suite is about, and what makes each.
KINDS = {"asyncio": "asyncio:SelectorEventLoop", "aioxide": "aioxide:new_event_loop"}

#: The process's own standard error, which pytest redirects while a test runs.
STDERR = pytest.StashKey[int]()


class Hung(SystemExit):
    """Raised by the watchdog.  Loops let SystemExit out of callbacks, so it cannot be eaten."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        metavar="MODULE:FACTORY",
        help="run on this loop alone, and on neither asyncio's nor aioxide",
    )


def kinds(config: pytest.Config) -> dict[str, str]:
    """The kinds of this run by name; that of another loop is its module's."""
    other: str | None = config.getoption("--loop", None)
    return {other.partition(":")[0]: other} if other else KINDS


# First, so that a test's identifier begins with its kind.
@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a loop, or for its kind, once per kind, and with each way to do TLS."""
    if "session" in metafunc.fixturenames:
        runs = [
            (kind, session)
            for kind in kinds(metafunc.config)
            for session in (sessions() if kind == "aioxide" else [None])
        ]
        ids = ["-".join(filter(None, run)) for run in runs]
        metafunc.parametrize(("kind", "session"), runs, indirect=True, ids=ids)
    elif "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", kinds(metafunc.config), indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "oracle(holds, reason): whether CPython's loop passes the test"
    )
    config.addinivalue_line("filterwarnings", "error")
    config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Bound each test: first by an exception, then by ending the process with every stack shown."""

    def expired(signum: int, frame: FrameType | None) -> None:
        raise Hung(f"{item.nodeid} did not end within {WATCHDOG} s")

    previous = signal.signal(signal.SIGALRM, expired)
    # Repeated, so that a clean-up that hangs in its turn is ended too.
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG, 5)
    faulthandler.dump_traceback_later(WATCHDOG + 20, exit=True, file=item.config.stash[STDERR])
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test on the loop that its ``loop`` fixture made."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    loop = cast("asyncio.AbstractEventLoop", pyfuncitem.funcargs["loop"])
    loop.run_until_complete(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Which loop this run of the test is about."""
    name: str = request.param
    marker = request.node.get_closest_marker("oracle")
    if name == "asyncio" and marker is not None and not marker.args[0]:
        pytest.skip(f"CPython's loop differs here: {marker.args[1]}")
    return name


@pytest.fixture
def loop_maker(kind: str, request: pytest.FixtureRequest) -> str:
    """What makes loops of this kind, by name, for a program that is another process."""
    return kinds(request.config)[kind]


@pytest.fixture
def loop_factory(loop_maker: str) -> LoopFactory:
    """A maker of loops of this kind; the caller closes what it makes."""
    return cast("LoopFactory", pkgutil.resolve_name(loop_maker))


@pytest.fixture
def errors() -> Errors:
    """The contexts given to the exception handler of ``loop``; what is not taken fails the test."""
    return Errors()


@pytest.fixture
def loop(loop_factory: LoopFactory, errors: Errors) -> Iterator[asyncio.AbstractEventLoop]:
    """A fresh loop, closed after the test and then checked to have left nothing behind."""
    loop = loop_factory()
    loop.set_exception_handler(errors.record)
    yield loop
    pending: list[asyncio.Task[Any]] = []
    if not loop.is_closed():
        loop.run_until_complete(asyncio.sleep(0))
        pending = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.wait(pending))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    gc.collect()
    assert errors.take() == [], "the loop reported errors that the test did not expect"
    assert pending == [], "tasks were left pending"


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Run:
    """Run a coroutine on ``loop`` from a plain test function."""

    def run_on_loop(main: Coroutine[Any, Any, T]) -> T:
        return loop.run_until_complete(main)

    return run_on_loop


@pytest.fixture
def later(request: pytest.FixtureRequest) -> Callable[[Callable[[], object]], None]:
    """Register a clean-up to run at the end of the test."""

    def register(cleanup: Callable[[], object]) -> None:
        request.addfinalizer(cleanup)

    return register


@pytest.fixture
def package() -> Any:
    """The package ``aioxide``; without it every test that is about it alone fails."""
    import aioxide

    return aioxide


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The authority of the tests, and who has a certificate of it."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def session(kind: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """How aioxide does TLS in this run of the test; None on another loop."""
    name: str | None = request.param
    if kind == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("CPython's loop differs here: before 3.11 its TLS was another one")
    with in_use(name) if name else contextlib.nullcontext():
        yield name


@pytest.fixture
def tls(session: str | None, certificates: Certificates) -> Tls:
    """Contexts, and connections with a peer that is driven by hand."""
    return Tls(certificates)


@pytest.fixture
def programs(tmp_path: Path, package: Any) -> Programs:
    """Programs in a directory of the test's own."""
    return Programs(tmp_path)
