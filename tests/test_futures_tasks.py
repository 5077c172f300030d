"""create_future, create_task and the task factory; awaiting and cancelling on this loop."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any, cast

import pytest

from .support import Errors, Loop, turns


async def echo(value: Any = None) -> Any:
    await asyncio.sleep(0)
    return value


async def test_create_future_gives_the_standard_class(loop: Loop) -> None:
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert asyncio.isfuture(future)
    assert future.get_loop() is loop
    assert not future.done()


async def test_done_callbacks_run_by_call_soon(loop: Loop) -> None:
    """Completion schedules the callbacks in order; it calls none of them itself."""
    calls: list[str] = []
    future = loop.create_future()
    future.add_done_callback(lambda f: calls.append("first"))
    future.add_done_callback(lambda f: calls.append("second"))
    future.set_result(None)
    assert calls == []
    future.add_done_callback(lambda f: calls.append("already done"))
    await turns(1)
    assert calls == ["first", "second", "already done"]


async def test_remove_done_callback_returns_the_count(loop: Loop) -> None:
    future = loop.create_future()
    for _ in range(3):
        future.add_done_callback(print)
    assert future.remove_done_callback(print) == 3
    assert future.remove_done_callback(print) == 0
    future.cancel()


async def test_a_future_completes_once(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result(1)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_result(2)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(ValueError())
    assert future.cancel() is False
    assert await future == 1


async def test_create_task_runs_on_the_loop(loop: Loop) -> None:
    task = loop.create_task(echo("value"))
    assert isinstance(task, asyncio.Task)
    assert task.get_loop() is loop
    assert not task.done()
    assert await task == "value"


async def test_tasks_start_in_order_of_creation(loop: Loop) -> None:
    started: list[int] = []

    async def note(number: int) -> None:
        started.append(number)

    tasks = [loop.create_task(note(number)) for number in range(5)]
    assert started == []
    await asyncio.wait(tasks)
    assert started == [0, 1, 2, 3, 4]


async def test_create_task_with_a_name(loop: Loop) -> None:
    task = loop.create_task(echo(), name="named")
    assert task.get_name() == "named"
    await task


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the parameter came with 3.11")
async def test_create_task_with_a_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    context = contextvars.copy_context()

    async def set_it() -> None:
        variable.set("in the given context")

    await loop.create_task(set_it(), context=context)
    assert context[variable] == "in the given context"
    assert variable.get("not here") == "not here"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the parameter came with 3.14")
async def test_create_task_eagerly(loop: Loop) -> None:
    steps: list[str] = []

    async def work() -> str:
        steps.append("started")
        await asyncio.sleep(0)
        return "ended"

    task = cast(Any, loop).create_task(work(), eager_start=True)
    assert steps == ["started"], "the first step is taken inside create_task()"
    assert await task == "ended"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_the_eager_task_factory(loop: Loop) -> None:
    async def at_once() -> str:
        return "without a turn of the loop"

    loop.set_task_factory(cast(Any, asyncio).eager_task_factory)
    task = loop.create_task(at_once())
    assert task.done()
    assert task.result() == "without a turn of the loop"


async def test_create_task_refuses_other_keywords(loop: Loop) -> None:
    coroutine = echo()
    for wrong in ({"nonsense": 1}, {"loop": loop}, {"name": "x", "nonsense": 1}):
        with pytest.raises(TypeError):
            cast(Any, loop).create_task(coroutine, **wrong)
    with pytest.raises(TypeError):
        cast(Any, loop).create_task(coroutine, "name")
    with pytest.raises(TypeError):
        cast(Any, loop).create_task()
    await coroutine


async def test_tasks_and_futures_are_made_again_after_their_class_has_failed(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    class Task(asyncio.Task[Any]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(kwargs)
            kwargs["more"] = 1
            if len(made) == 1:
                raise ValueError("not this one")
            super().__init__(*args, loop=kwargs["loop"])

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.tasks, "Task", Task)
        coroutine = echo(1)
        with pytest.raises(ValueError, match="not this one"):
            loop.create_task(coroutine)
        coroutine.close()
        assert await loop.create_task(echo(2)) == 2
    assert await loop.create_task(echo(3)) == 3
    assert type(loop.create_task(echo(4))) is asyncio.Task
    assert loop.create_future().get_loop() is loop
    assert len(made) == 2


@pytest.mark.skipif(sys.version_info >= (3, 13, 3), reason="passed on to the task since 3.13.3")
async def test_create_task_refuses_keywords_of_newer_versions(loop: Loop) -> None:
    coroutine = echo()
    for wrong in ({"eager_start": True}, {"name": "x", "eager_start": None}):
        with pytest.raises(TypeError, match=r"create_task\(\) got .* 'eager_start'"):
            cast(Any, loop).create_task(coroutine, **wrong)
    await coroutine


async def test_create_task_wants_a_coroutine(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"^a coroutine was expected, got 42$"):
        loop.create_task(42)  # type: ignore[arg-type]


async def test_the_task_factory_makes_the_tasks(loop: Loop) -> None:
    made: list[tuple[Any, dict[str, Any]]] = []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        made.append((loop, options))
        return asyncio.Task(coro, loop=loop)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    assert await loop.create_task(echo(1)) == 1
    assert await asyncio.create_task(echo(2)) == 2
    assert [made_on for made_on, _ in made] == [loop, loop]
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    await loop.create_task(echo())
    assert len(made) == 2


async def test_a_task_factory_must_be_callable(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"^task factory must be a callable or None$"):
        loop.set_task_factory(42)  # type: ignore[arg-type]


async def test_a_class_in_the_place_of_asyncios_makes_the_tasks(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Task(asyncio.Task[Any]):
        pass

    assert await loop.create_task(echo(1)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.tasks, "Task", Task)
        task = loop.create_task(echo(2))
    assert type(task) is Task
    assert await task == 2
    assert type(loop.create_task(echo())) is asyncio.Task
    await turns(2)


async def test_a_task_factory_is_asked_until_it_is_taken_back(loop: Loop) -> None:
    made: list[object] = []

    def factory(given: Any, coro: Any, **kwargs: Any) -> Any:
        made.append(coro)
        return asyncio.Task(coro, loop=given, **kwargs)

    first, second, third = echo(1), echo(2), echo(3)
    assert await loop.create_task(first) == 1
    loop.set_task_factory(factory)
    assert await loop.create_task(second) == 2
    loop.set_task_factory(None)
    assert await loop.create_task(third) == 3
    assert made == [second]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the context parameter came with 3.11")
async def test_the_task_factory_gets_the_context(loop: Loop) -> None:
    options: list[dict[str, Any]] = []

    def factory(loop: Any, coro: Any, **given: Any) -> Any:
        options.append(given)
        return asyncio.Task(coro, loop=loop, **given)

    context = contextvars.copy_context()
    loop.set_task_factory(factory)
    await loop.create_task(echo(), context=context)
    assert options[0]["context"] is context


async def test_cancelling_a_task_reaches_its_await(loop: Loop) -> None:
    reached: list[str] = []

    async def work() -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            reached.append("cancelled")
            raise

    task = loop.create_task(work())
    await turns(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == ["cancelled"]


async def test_a_timeout_cancels_the_wait(loop: Loop) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)


async def test_all_tasks_and_current_task_know_the_loop(loop: Loop) -> None:
    task = loop.create_task(echo())
    current = asyncio.current_task()
    assert current is not None
    assert asyncio.all_tasks() == {task, current}
    assert asyncio.all_tasks(loop) == {task, current}
    await task
    assert asyncio.all_tasks() == {current}


async def test_gather_and_as_completed(loop: Loop) -> None:
    assert await asyncio.gather(*(echo(n) for n in range(100))) == list(range(100))
    assert {await step for step in asyncio.as_completed([echo(1), echo(2)])} == {1, 2}


async def test_locks_queues_events_and_conditions(loop: Loop) -> None:
    """The synchronisation primitives stand on create_future() and call_soon() alone."""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
    event = asyncio.Event()
    lock = asyncio.Lock()
    got: list[int] = []

    async def consume() -> None:
        await event.wait()
        for _ in range(5):
            got.append(await queue.get())

    task = loop.create_task(consume())
    async with lock:
        event.set()
        for number in range(5):
            await queue.put(number)
    await task
    assert got == [0, 1, 2, 3, 4]


async def test_ensure_future_and_wrap_future(loop: Loop) -> None:
    future = loop.create_future()
    assert asyncio.ensure_future(future) is future
    future.set_result(None)
    assert await asyncio.ensure_future(echo(3)) == 3


async def test_an_exception_nobody_retrieved_is_reported(loop: Loop, errors: Errors) -> None:
    async def fail() -> None:
        raise LookupError("nobody looked")

    task = loop.create_task(fail())
    await turns(2)
    assert task.done()
    del task
    context = errors.take_one()
    assert context["message"] == "Task exception was never retrieved"
    assert str(context["exception"]) == "nobody looked"
    assert isinstance(context["future"], asyncio.Task)
