"""The whole of asyncio's interface is there, and so is what works with any loop of asyncio's.

What there is, is asked of the running version's own classes, not of a list.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import subprocess
import sys
import textwrap
from asyncio import base_events, selector_events, sslproto, unix_events
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from .connections import serving
from .datagrams import DatagramRecorder, endpoint
from .pipes import anonymous, reading, writing
from .processes import CAT, running
from .running import Programs
from .support import Loop, LoopFactory, Recorder, tcp_pair, turns
from .tls import Tls

#: Where aioxide differs, and why.
DIFFERENT = {
    "_UnixSelectorEventLoop.create_datagram_endpoint: reuse_address": "3.10 takes and refuses it",
    "_SelectorDatagramTransport.writelines: missing": "it calls write(), which is not there",
}


def refuses(method: Any) -> bool:
    """Whether a method of asyncio's is there only to say that it is not."""
    code = getattr(method, "__code__", None)
    return code is not None and "NotImplementedError" in code.co_names


def interface(cls: type[Any]) -> dict[str, Any]:
    """The public methods and properties of one of asyncio's classes."""
    found = {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}
    return {
        name: thing
        for name, thing in found.items()
        if isinstance(thing, property) or (callable(thing) and not refuses(thing))
    }


def parameters(method: Any) -> list[inspect.Parameter]:
    """Those of a bound method."""
    return list(inspect.signature(method).parameters.values())


def incompatible(theirs: Any, ours: Any) -> list[str]:
    """The parameters that ours does not take as theirs does, and those that it wants besides."""
    found = []
    own = {parameter.name: parameter for parameter in parameters(ours)}
    order = list(own)
    for position, parameter in enumerate(parameters(theirs)):
        match = own.pop(parameter.name, None)
        alike = (
            match is not None
            and (match.kind, match.default) == (parameter.kind, parameter.default)
            and (match.kind is not match.POSITIONAL_OR_KEYWORD or order[position] == match.name)
        )
        if not alike:
            found.append(parameter.name)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found += [
        name
        for name, parameter in own.items()
        if parameter.default is parameter.empty and parameter.kind not in variable
    ]
    return found


def differences(cls: type[Any], instance: Any) -> set[str]:
    """What an instance of ours lacks of asyncio's class, or has in another way."""
    found = []
    for name in interface(cls):
        theirs = getattr(cls, name)
        if not hasattr(type(instance), name):
            found.append(f"{name}: missing")
        elif isinstance(theirs, property):
            getattr(instance, name)
        else:
            problems = incompatible(theirs.__get__(instance), getattr(instance, name))
            found += [f"{name}: {problem}" for problem in problems]
    return {f"{cls.__name__}.{difference}" for difference in found} - DIFFERENT.keys()


# ---- what there is ----


def test_the_loop_has_every_method_with_its_parameters(loop: Loop) -> None:
    cls = unix_events._UnixSelectorEventLoop
    assert set(interface(cls)) >= {
        name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_")
    }
    assert differences(cls, loop) == set()


def test_no_method_of_the_loop_is_a_refusal(loop_factory: LoopFactory) -> None:
    """Each is called, with nothing useful, and says something else than that it is not there."""
    refused = set()

    async def call(loop: Loop, name: str) -> None:
        method = getattr(loop, name)
        wanted = [
            parameter
            for parameter in parameters(method)
            if parameter.default is parameter.empty
            and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        try:
            result = method(*[None for _ in wanted])
            if inspect.iscoroutine(result):
                await result
        except NotImplementedError:
            refused.add(name)
        except Exception:
            pass

    for name in interface(unix_events._UnixSelectorEventLoop):
        loop = loop_factory()
        loop.set_exception_handler(lambda loop, context: None)
        calling = loop.create_task(call(loop, name))
        # stop() stops it, and is not followed by anything.
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(calling)
        loop.run_until_complete(calling)
        loop.close()
    assert refused == set()


@contextlib.asynccontextmanager
async def everything(loop: Loop, directory: Path, tls: Tls) -> AsyncIterator[dict[str, Any]]:
    """One of each kind of object that a loop makes, by the name of asyncio's class."""
    ours, peer = tcp_pair()
    protocol = Recorder()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(peer)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        enter = stack.enter_async_context
        server, _ = await enter(serving(loop, Recorder))
        reader, _ = await enter(reading(loop, Recorder(), anonymous(directory)))
        writer, _ = await enter(writing(loop, Recorder(), anonymous(directory)))
        yield {
            "_SelectorSocketTransport": transport,
            "_SSLProtocolTransport": (await enter(tls.connected(loop, Recorder())))[0],
            "_SelectorDatagramTransport": await enter(endpoint(loop, DatagramRecorder())),
            "_UnixReadPipeTransport": reader,
            "_UnixWritePipeTransport": writer,
            "_UnixSubprocessTransport": (await enter(running(loop, CAT))).transport,
            "Server": server,
            "Handle": loop.call_soon(int),
            "TimerHandle": loop.call_later(0, int),
        }
        transport.close()
        await protocol.until_lost()


async def test_what_the_loop_makes_has_every_method_with_its_parameters(
    loop: Loop, tmp_path: Path, tls: Tls
) -> None:
    async with everything(loop, tmp_path, tls) as made:
        for name, instance in made.items():
            (cls,) = {
                cast("type[Any]", getattr(module, name))
                for module in (asyncio, base_events, selector_events, sslproto, unix_events)
                if hasattr(module, name)
            }
            assert differences(cls, instance) == set()


# ---- eager tasks ----


needs_eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="they came with 3.12")
needs_eager_start = pytest.mark.skipif(sys.version_info < (3, 14), reason="it came with 3.14")


@needs_eager_tasks
async def test_an_eager_task_uses_the_loop_in_its_first_step(loop: Loop) -> None:
    """It connects, sleeps and makes tasks before create_task() has returned."""
    seen: list[Any] = []

    async def client(address: tuple[str, int]) -> bytes:
        seen.append(asyncio.current_task())
        reader, writer = await asyncio.open_connection(*address)
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        return data

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    loop.set_task_factory(cast(Any, asyncio).eager_task_factory)
    current = asyncio.current_task()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    task = loop.create_task(client(server.sockets[0].getsockname()))
    assert seen == [task]
    assert asyncio.current_task() is current
    assert await task == b"hello"
    server.close()
    await server.wait_closed()


@needs_eager_tasks
async def test_an_eager_factory_of_ones_own(loop: Loop) -> None:
    class Mine(asyncio.Task[Any]):
        pass

    async def work() -> str:
        return "at once"

    loop.set_task_factory(cast(Any, asyncio).create_eager_task_factory(Mine))
    task = loop.create_task(work(), name="its name")
    assert isinstance(task, Mine)
    assert task.done()
    assert task.get_name() == "its name"
    assert list(await asyncio.gather(work(), work())) == ["at once"] * 2


@needs_eager_start
async def test_eager_start_is_for_each_task_to_say(loop: Any) -> None:
    steps: list[str] = []

    async def work(name: str) -> None:
        steps.append(name)

    async with asyncio.TaskGroup() as group:
        make = cast(Any, group.create_task)
        make(work("eager"), eager_start=True)
        make(work("later"), eager_start=False)
        assert steps == ["eager"]
    loop.set_task_factory(cast(Any, asyncio).eager_task_factory)
    task = loop.create_task(work("not now"), eager_start=False)
    assert steps == ["eager", "later"]
    await task
    assert steps == ["eager", "later", "not now"]


# ---- introspection ----


needs_call_graphs = pytest.mark.skipif(sys.version_info < (3, 14), reason="it came with 3.14")


@needs_call_graphs
async def test_a_call_graph_is_captured(loop: Loop) -> None:
    """Of a task that waits for the network: who awaits it, and where it stands."""

    async def receive() -> bytes:
        return await loop.sock_recv(ours, 100)

    async def outer() -> bytes:
        return await receive()

    async def wait_for(task: asyncio.Task[bytes]) -> bytes:
        return await task

    ours, peer = tcp_pair()
    with ours, peer:
        task = loop.create_task(outer(), name="the receiver")
        waiter = loop.create_task(wait_for(task))
        await turns(2)
        graph = cast(Any, asyncio).capture_call_graph(task)
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        text = cast(Any, asyncio).format_call_graph(task)
        peer.send(b"end")
        assert await waiter == b"end"
    assert [name for name in names if name != "sock_recv"] == ["receive", "outer"]
    assert [awaited.future for awaited in graph.awaited_by] == [waiter]
    assert "name='the receiver'" in text
    assert "outer()" in text


@needs_call_graphs
async def test_the_running_task_captures_its_own_call_graph(loop: Loop) -> None:
    async def inner() -> Any:
        return cast(Any, asyncio).capture_call_graph()

    async def outer() -> Any:
        return await inner()

    graph = await loop.create_task(outer())
    names = [entry.frame.f_code.co_name for entry in graph.call_stack]
    assert names[:2] == ["inner", "outer"]


WAITING = """
    import asyncio, pkgutil, sys

    async def leaf():
        print("waiting", flush=True)
        await asyncio.get_running_loop().create_future()

    async def branch():
        await leaf()

    async def main():
        reading, writing = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.TaskGroup() as group:
            group.create_task(reading.read(), name="the reader")
            group.create_task(branch(), name="the branch")

    loop = pkgutil.resolve_name(sys.argv[1])()
    served = []
    server = loop.run_until_complete(
        asyncio.start_server(lambda *streams: served.append(streams), "127.0.0.1", 0)
    )
    loop.run_until_complete(main())
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the tool came with 3.14")
def test_the_tasks_of_another_process_are_shown(loop_maker: str, tmp_path: Path) -> None:
    """`python -m asyncio ps` and `pstree` read them out of a process that does not take part."""
    programs = Programs(tmp_path)
    path = programs.write("waiting.py", WAITING)
    with subprocess.Popen(
        [sys.executable, path, loop_maker], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "waiting\n"
            shown = {
                tool: programs.python("-m", "asyncio", tool, process.pid)
                for tool in ("ps", "pstree")
            }
        finally:
            process.kill()
    for done in shown.values():
        if re.search("permission|privileges|not supported", done.stderr, re.IGNORECASE):
            pytest.skip(f"the tool may not look: {done.stderr.strip().splitlines()[-1]}")
        assert (done.returncode, done.stderr) == (0, "")
    table = shown["ps"].stdout
    assert re.search(r"the branch +leaf -> branch .* main +Task-\d", table)
    # What is compiled has no frame, and so no place in the stack: the README says so.
    waits = r"(StreamReader\._wait_for_data -> StreamReader\.read -> )"
    waits += "?" if loop_maker.startswith("aioxide") else ""
    assert re.search(rf"the reader +{waits}StreamReader\.read .* main", table)
    tree = [line.strip("│├└─ ").partition(" /")[0] for line in shown["pstree"].stdout.splitlines()]
    for part in (["(T) the branch", "branch", "leaf"], ["(T) the reader", "StreamReader.read"]):
        at = tree.index(part[0])
        assert tree[at : at + len(part)] == part
        assert tree.index("main") < at


# ---- fork ----


FORKING = """
import asyncio, os, pkgutil, sys

async def exchange():
    # Through every layer: a server, a connection, a timer.
    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return await asyncio.sleep(0.001, answer.decode())

def run(loop):
    try:
        return loop.run_until_complete(exchange())
    finally:
        loop.close()

def attempt(call):
    # In words that do not depend on the loop's kind.
    try:
        result = call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return result if isinstance(result, (str, bool)) else "something"

def fork():
    sys.stdout.flush()
    return os.fork()

def wait_for(child):
    status = os.waitpid(child, 0)[1]
    print("the child ended with", os.waitstatus_to_exitcode(status))

def forked(*calls):
    child = fork()
    if child == 0:
        for call in calls:
            print("in the child:", attempt(call), flush=True)
        os._exit(0)
    wait_for(child)

maker = pkgutil.resolve_name(sys.argv[1])
loop = maker()
"""


def forking(loop_maker: str, directory: Path, program: str) -> list[str]:
    """What a program prints that forks."""
    programs = Programs(directory)
    path = programs.write("forking.py", FORKING + textwrap.dedent(program))
    done = programs.python(path, loop_maker)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_forked_child_runs_loops_of_its_own_and_the_parent_goes_on(
    loop_maker: str, tmp_path: Path
) -> None:
    program = """
        async def main():
            print(await exchange())
            forked(lambda: run(maker()), lambda: run(maker()))
            print(await exchange())

        loop.run_until_complete(main())
        # The loop does not run now, and the child may use and close its own copy of it.
        forked(lambda: run(loop), lambda: run(maker()))
        loop.run_until_complete(main())
        loop.close()
    """
    children = [*["in the child: hello"] * 2, "the child ended with 0"]
    inside = ["hello", *children, "hello"]
    assert forking(loop_maker, tmp_path, program) == [*inside, *children, *inside]


def test_a_forked_child_uses_its_parents_running_loop(loop_maker: str, tmp_path: Path) -> None:
    """It gets what it gets on asyncio's loop, and the parent goes on."""
    program = """
        async def main():
            never = loop.create_future()
            for call in (
                asyncio.get_running_loop,
                asyncio.current_task,
                loop.is_running,
                loop.is_closed,
                loop.run_forever,
                lambda: loop.run_until_complete(never),
                loop.close,
                lambda: loop.call_soon(int),
                lambda: loop.call_later(0, int),
                lambda: loop.call_soon_threadsafe(int),
                loop.create_future,
                lambda: never.set_result(None),
                loop.stop,
            ):
                forked(call)
            print(await exchange(), never.done())

        loop.run_until_complete(main())
        loop.close()
    """
    expected = forking("asyncio:SelectorEventLoop", tmp_path, program)
    assert expected[-1] == "hello False"
    assert forking(loop_maker, tmp_path, program) == expected


def test_a_forked_child_goes_on_with_its_parents_loop(loop_maker: str, tmp_path: Path) -> None:
    """The task in which it was forked ends in both, as it does on asyncio's loop."""
    program = """
        def report(loop, context):
            print("reported:", type(context["exception"]).__name__, flush=True)

        async def main():
            return fork()

        loop.set_exception_handler(report)
        child = loop.run_until_complete(main())
        if child == 0:
            print("in the child:", loop.run_until_complete(exchange()), flush=True)
            os._exit(0)
        wait_for(child)
        print(loop.run_until_complete(exchange()))
        loop.close()
    """
    expected = forking("asyncio:SelectorEventLoop", tmp_path, program)
    assert expected[-3:] == ["in the child: hello", "the child ended with 0", "hello"]
    assert forking(loop_maker, tmp_path, program) == expected


def test_a_forked_child_waits_with_its_parents_loop(loop_maker: str, tmp_path: Path) -> None:
    """Descriptors are watched, and no longer watched, as in the process that made the loop."""
    program = """
        import signal, socket, time

        async def turns():
            here, there = socket.socketpair()
            with here, there:
                here.setblocking(False)
                there.send(b"x")
                # One side, both, the other, none.
                read, written = loop.create_future(), loop.create_future()
                loop.add_reader(here, read.set_result, "read")
                read.add_done_callback(lambda _: loop.remove_reader(here))
                print(await read)
                loop.add_reader(here, here.recv, 1)
                loop.add_writer(here, written.set_result, "written")
                written.add_done_callback(lambda _: loop.remove_writer(here))
                print(await written)
                loop.remove_reader(here)
                there.send(b"y")
                # What nobody waits for does not wake the loop.
                before = time.process_time()
                await asyncio.sleep(0.5)
                print(time.process_time() - before < 0.25)

        async def main():
            await turns()
            print(await exchange(), flush=True)
            return "went on"

        child = fork()
        if child == 0:
            signal.alarm(10)
            print("in the child:", attempt(lambda: loop.run_until_complete(main())), flush=True)
            os._exit(0)
        wait_for(child)
        loop.run_until_complete(main())
        loop.close()
    """
    expected = forking("asyncio:SelectorEventLoop", tmp_path, program)
    seen = ["read", "written", "True", "hello"]
    assert expected == [*seen, "in the child: went on", "the child ended with 0", *seen]
    assert forking(loop_maker, tmp_path, program) == expected


# ---- subinterpreters ----


SUBINTERPRETER = """
    import sys

    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    kind = sys.argv[1]
    if sys.version_info >= (3, 13):
        made = interpreters.create("isolated" if kind == "isolated" else "legacy")
    elif sys.version_info >= (3, 12):
        made = interpreters.create(isolated=kind == "isolated")
    else:
        made = interpreters.create()
    interpreters.run_string(
        made,
        "import os\\n"
        "try:\\n"
        "    import aioxide\\n"
        "    os.write(1, b'imported\\\\n')\\n"
        "except ImportError as error:\\n"
        "    os.write(1, str(error).encode() + b'\\\\n')\\n",
    )
    interpreters.destroy(made)

    import aioxide, asyncio

    async def main():
        async with await asyncio.start_server(print, "127.0.0.1", 0) as server:
            print("served from the main interpreter:", len(server.sockets))

    aioxide.run(main())
"""


@pytest.mark.parametrize("interpreter", ["isolated", "sharing the GIL"])
def test_a_subinterpreter_is_refused(programs: Programs, interpreter: str) -> None:
    """What the engine keeps of Python is the main interpreter's, which goes on working."""
    if interpreter == "isolated" and sys.version_info < (3, 12):
        pytest.skip("before 3.12 all interpreters share the GIL")
    done = programs.python(programs.write("program.py", SUBINTERPRETER), interpreter)
    assert (done.returncode, done.stderr) == (0, "")
    refused, served = done.stdout.splitlines()
    assert "subinterpreter" in refused
    assert served == "served from the main interpreter: 1"
