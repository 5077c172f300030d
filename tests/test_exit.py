"""The end of the interpreter while loops run in daemon threads, which it does not wait for."""

from __future__ import annotations

import textwrap

import pytest

from .running import Programs

#: How often a program is run: which thread has the GIL at the end is chance.
REPEATS = 3

#: What all programs begin with. `daemon` runs a function in a daemon thread; `busy` says that what
#: a program is about has begun. The interpreter's end takes long enough for each thread to ask for
#: the GIL meanwhile, which it never gets.
BEGIN = """
import asyncio, atexit, pkgutil, sys, threading, time

new_event_loop = pkgutil.resolve_name(sys.argv[1])
busy = threading.Semaphore(0)

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.03)

sys.modules["slow to go"] = Slow()

def daemon(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread

def run(main):
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())
"""

CALLBACKS = """
def again(loop):
    sum(range(50))
    busy.release()
    loop.call_soon(again, loop)

def work(loop):
    loop.call_soon(again, loop)
    loop.run_forever()

daemon(work, new_event_loop())
busy.acquire()
"""

ONE_LONG_CALLBACK = """
async def main():
    busy.release()
    while True:
        sum(range(50))

daemon(run, main)
busy.acquire()
"""

A_CALLBACK_THAT_BLOCKS = """
async def main():
    busy.release()
    while True:
        time.sleep(0.0001)

daemon(run, main)
busy.acquire()
"""

TIMERS = """
async def main():
    while True:
        await asyncio.sleep(0.001)
        busy.release()

daemon(run, main)
busy.acquire()
"""

ASLEEP = """
async def main():
    asyncio.get_running_loop().call_soon(busy.release)
    await asyncio.sleep(3600)

daemon(run, main)
busy.acquire()
"""

STREAMS = """
async def echo(reader, writer):
    while line := await reader.readline():
        time.sleep(0.0001)
        writer.write(line)
        await writer.drain()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while True:
        writer.write(b"line\\n")
        await reader.readline()
        busy.release()

daemon(run, main)
busy.acquire()
"""

PROTOCOLS = """
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        time.sleep(0.0001)
        self.transport.write(data)
        busy.release()

class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = bytearray(1024)
        transport.write(b"bytes")

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        time.sleep(0.0001)
        self.transport.write(self.buffer[:count])

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [await loop.create_connection(BufferedEcho, *address) for _ in range(4)]
    await loop.create_future()

daemon(run, main)
for _ in range(20):
    busy.acquire()
"""

SEVERAL_LOOPS = """
def pass_on(loop, other):
    busy.release()
    other.call_soon_threadsafe(pass_on, other, loop)

loops = [new_event_loop() for _ in range(4)]
for loop, other in zip(loops, loops[1:] + loops[:1]):
    loop.call_soon(pass_on, loop, other)
    daemon(loop.run_forever)
for _ in range(100):
    busy.acquire()
"""

THREADSAFE_IN_DEBUG_MODE = """
loop = new_event_loop()
loop.set_debug(True)
loop.slow_callback_duration = 3600

def send():
    while True:
        loop.call_soon_threadsafe(busy.release)

daemon(loop.run_forever)
daemon(send)
daemon(send)
busy.acquire()
"""

EXECUTOR = """
async def main():
    loop = asyncio.get_running_loop()
    try:
        while True:
            await loop.run_in_executor(None, sum, range(50))
            busy.release()
    except RuntimeError:  # At the end executors take no more work.
        while True:
            await asyncio.sleep(0)

daemon(run, main)
busy.acquire()
"""

MANY_SHORT_RUNS = """
class Circle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        sum(range(50))

async def main():
    Circle()
    await asyncio.sleep(0)
    busy.release()

def work():
    while True:
        loop = new_event_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 3600
        loop.run_until_complete(main())
        loop.call_soon(Circle().__del__)
        loop.close()

daemon(work)
daemon(work)
busy.acquire()
"""

PROGRAMS = {
    "callbacks": CALLBACKS,
    "one_long_callback": ONE_LONG_CALLBACK,
    "a_callback_that_blocks": A_CALLBACK_THAT_BLOCKS,
    "timers": TIMERS,
    "asleep": ASLEEP,
    "streams": STREAMS,
    "protocols": PROTOCOLS,
    "several_loops": SEVERAL_LOOPS,
    "threadsafe_in_debug_mode": THREADSAFE_IN_DEBUG_MODE,
    "executor": EXECUTOR,
    "many_short_runs": MANY_SHORT_RUNS,
}


def output(programs: Programs, text: str, loop_maker: str) -> list[str]:
    """What a program prints, it having ended well and silently."""
    path = programs.write("program.py", BEGIN + textwrap.dedent(text))
    done = programs.python(path, loop_maker)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", PROGRAMS)
def test_daemon_threads_do_not_disturb_the_end(
    programs: Programs, loop_maker: str, name: str
) -> None:
    for _ in range(REPEATS):
        assert output(programs, PROGRAMS[name], loop_maker) == []


def test_an_exit_handler_stops_a_daemon_threads_loop(programs: Programs, loop_maker: str) -> None:
    text = """
        loop = new_event_loop()

        def work():
            loop.call_soon(busy.release)
            loop.run_forever()
            loop.close()

        def end():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            print("joined", loop.is_closed())

        atexit.register(end)
        thread = daemon(work)
        busy.acquire()
    """
    assert output(programs, text, loop_maker) == ["joined True"]


def test_a_loop_runs_in_an_exit_handler(programs: Programs, loop_maker: str) -> None:
    text = """
        async def main():
            await asyncio.sleep(0.001)
            print("ran")

        atexit.register(run, main)
    """
    assert output(programs, text, loop_maker) == ["ran"]


def test_the_end_waits_for_loops_in_other_threads(programs: Programs, loop_maker: str) -> None:
    text = """
        async def main():
            busy.release()
            while threading.main_thread().is_alive():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            print("done")

        threading.Thread(target=run, args=(main,)).start()
        busy.acquire()
    """
    assert output(programs, text, loop_maker) == ["done"]


def test_threads_with_loops_end(programs: Programs, loop_maker: str) -> None:
    """Those that end by themselves, while the interpreter goes on."""
    text = """
        import os

        async def main():
            await asyncio.sleep(0)

        def threads():
            return len(os.listdir("/proc/self/task"))

        for _ in range(20):
            daemon(run, main).join()
        deadline = time.monotonic() + 10
        while threads() > 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        print(threads())
    """
    assert output(programs, text, loop_maker) == ["1"]
