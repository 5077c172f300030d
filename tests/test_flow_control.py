"""Write buffer limits, and pause_writing()/resume_writing() at them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from .connections import connected
from .support import BIG, Loop, Recorder, drain_now, fill, oracle_when, read_exactly, turns


async def test_the_default_limits(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        assert transport.get_write_buffer_limits() == (16384, 65536)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"high": 1001}, (250, 1001)),
        ({"high": 3}, (0, 3)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 1000, "low": 999}, (999, 1000)),
        ({"high": 1000, "low": 1000}, (1000, 1000)),
        ({"high": 1000, "low": 0}, (0, 1000)),
        ({"high": 0}, (0, 0)),
        ({"low": 0}, (0, 0)),
        ({"high": 0, "low": 0}, (0, 0)),
    ],
)
async def test_the_rules_of_the_limits(
    loop: Loop, limits: dict[str, int], expected: tuple[int, int]
) -> None:
    """high alone gives low = high / 4; low alone gives high = 4 * low."""
    async with connected(loop, Recorder()) as (transport, _):
        transport.set_write_buffer_limits(1, 1)
        transport.set_write_buffer_limits(**limits)
        assert transport.get_write_buffer_limits() == expected


@pytest.mark.parametrize(("high", "low"), [(1, 2), (-1, -1), (10, -1), (-4, None)])
async def test_impossible_limits(loop: Loop, high: int, low: int | None) -> None:
    shown = high // 4 if low is None else low
    text = rf"^high \({high}\) must be >= low \({shown}\) must be >= 0$"
    async with connected(loop, Recorder()) as (transport, _):
        with pytest.raises(ValueError, match=text):
            transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == (16384, 65536), "nothing was changed"


async def test_the_limits_are_positional_high_then_low(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        transport.set_write_buffer_limits(100, 50)
        assert transport.get_write_buffer_limits() == (50, 100)


async def test_pause_above_high_then_resume_at_low(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        assert protocol.names == ["connection_made", "pause_writing"], "inside write() itself"
        transport.write(b"y" * 100_000)
        assert protocol.names[-1] == "pause_writing", "once, however much is written"
        assert [call[0] for call in protocol.calls].count("pause_writing") == 1
        await read_exactly(loop, peer, BIG + 100_000)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        assert transport.get_write_buffer_size() <= 16384
        assert [call[0] for call in protocol.calls].count("resume_writing") == 1


async def test_the_buffer_size_counts_what_the_kernel_did_not_take(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, peer):
        assert transport.get_write_buffer_size() == 0
        transport.write(b"x" * BIG)
        queued = transport.get_write_buffer_size()
        assert 0 < queued < BIG
        transport.write(b"y" * 1000)
        assert transport.get_write_buffer_size() == queued + 1000
        await read_exactly(loop, peer, BIG + 1000)
        await turns(3)
        assert transport.get_write_buffer_size() == 0


async def test_a_small_write_is_not_queued(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x" * 100)
        transport.write(b"y" * 100)
        assert transport.get_write_buffer_size() == 0
    assert "pause_writing" not in protocol.names


async def test_high_zero_pauses_whenever_something_is_queued(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket").dup()
        with sock:
            sock.setblocking(False)
            filled = fill(sock)
        transport.write(b"1")
        assert protocol.names[-1] == "pause_writing"
        await read_exactly(loop, peer, filled + 1)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        assert transport.get_write_buffer_size() == 0


async def test_exactly_high_does_not_pause(loop: Loop) -> None:
    """Pausing needs more than the high-water mark."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        sock = transport.get_extra_info("socket").dup()
        with sock:
            sock.setblocking(False)
            fill(sock)
        transport.set_write_buffer_limits(high=1000)
        transport.write(b"x" * 1000)
        assert transport.get_write_buffer_size() == 1000
        assert "pause_writing" not in protocol.names
        transport.write(b"x")
        assert protocol.names[-1] == "pause_writing"


async def test_low_zero_resumes_only_when_empty(loop: Loop) -> None:
    sizes: list[int] = []

    class Watching(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            sizes.append(self.transport.get_write_buffer_size())

    protocol = Watching()
    async with connected(loop, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=1000, low=0)
        transport.write(b"x" * BIG)
        await read_exactly(loop, peer, BIG)
        await protocol.until(lambda: sizes)
    assert sizes == [0]


async def test_new_limits_below_the_queue_pause_at_once(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        transport.set_write_buffer_limits(high=2 * BIG)
        transport.write(b"x" * BIG)
        assert "pause_writing" not in protocol.names
        transport.set_write_buffer_limits(high=10)
        assert protocol.names[-1] == "pause_writing"


@oracle_when(
    not (3, 12) <= sys.version_info < (3, 14), "writelines() of 3.12 and 3.13.0 forgets to pause"
)
async def test_writelines_pauses_like_write(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        transport.writelines([b"x" * BIG, b"y"])
        assert protocol.names[-1] == "pause_writing"


async def test_writing_inside_resume_writing(loop: Loop) -> None:
    """A producer that refills in resume_writing() is paused again, and nothing is lost."""

    class Producer(Recorder):
        rounds = 3

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.rounds:
                self.rounds -= 1
                self.transport.write(b"r" * BIG)

    protocol = Producer()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"s" * BIG)
        assert await read_exactly(loop, peer, 4 * BIG) == b"s" * BIG + b"r" * 3 * BIG
        await protocol.until(lambda: protocol.names.count("resume_writing") == 4)
    flow = [name for name in protocol.names if name.endswith("_writing")]
    assert flow == ["pause_writing", "resume_writing"] * 4


async def test_abort_while_paused_does_not_resume(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.abort()
        await protocol.until_lost()
        drain_now(peer)
    assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]


async def test_close_while_paused_resumes_then_ends(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.close()
        await read_exactly(loop, peer, BIG)
        await protocol.until_lost()
    assert protocol.names == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ]


async def test_flow_control_follows_set_protocol(loop: Loop) -> None:
    """Whoever is the protocol at that time is told."""
    first, second = Recorder(), Recorder()
    async with connected(loop, first) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.set_protocol(second)
        await read_exactly(loop, peer, BIG)
        await second.until(lambda: second.calls)
    assert first.names == ["connection_made", "pause_writing"]
    assert second.names[0] == "resume_writing"


async def test_limits_are_counts(loop: Any) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits("high")  # type: ignore[arg-type]
