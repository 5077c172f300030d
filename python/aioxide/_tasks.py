"""Tasks and their factory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

from aioxide._room import Room

T = TypeVar("T")
TaskFactory = Callable[..., Any]


class TaskMethods(Room):
    """The task factory, and `create_task` where more is given than a coroutine.

    `create_task` itself is compiled: it makes the usual task, and calls `_create_task` for every
    other.
    """

    def __init__(self) -> None:
        self._task_factory: TaskFactory | None = None
        super().__init__()

    if sys.version_info >= (3, 14):

        def _create_task(
            self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], **kwargs: Any
        ) -> asyncio.Task[T]:
            """Schedule a coroutine; return its task."""
            self._check_closed()
            if self._task_factory is None:
                return asyncio.tasks.Task(coro, loop=self, **kwargs)
            made: asyncio.Task[T] = self._task_factory(self, coro, **kwargs)
            return made

    elif sys.version_info >= (3, 11):

        def _create_task(
            self,
            coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
            *,
            name: str | None = None,
            context: Context | None = None,
            **kwargs: Any,
        ) -> asyncio.Task[T]:
            """Schedule a coroutine; return its task."""
            if kwargs and sys.version_info < (3, 13, 3):  # where asyncio begins to pass on others
                name = next(iter(kwargs))
                raise TypeError(f"create_task() got an unexpected keyword argument {name!r}")
            self._check_closed()
            if self._task_factory is None:
                return asyncio.tasks.Task(coro, loop=self, name=name, context=context, **kwargs)
            if sys.version_info[:3] == (3, 13, 3):  # in this release alone
                made: asyncio.Task[T] = self._task_factory(
                    self, coro, name=name, context=context, **kwargs
                )
                return made
            if context is not None:
                kwargs["context"] = context
            task: asyncio.Task[T] = self._task_factory(self, coro, **kwargs)
            _set_name(task, name)
            return task

    else:

        def _create_task(
            self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], *, name: str | None = None
        ) -> asyncio.Task[T]:
            """Schedule a coroutine; return its task."""
            self._check_closed()
            if self._task_factory is None:
                return asyncio.tasks.Task(coro, loop=self, name=name)
            task: asyncio.Task[T] = self._task_factory(self, coro)
            _set_name(task, name)
            return task

    def set_task_factory(self, factory: TaskFactory | None) -> None:
        """Set what makes tasks, called as factory(loop, coro, **kwargs); None is the default."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory
        self._use_task_factory(factory is not None)

    def get_task_factory(self) -> TaskFactory | None:
        """What makes tasks, or None."""
        return self._task_factory


def _set_name(task: Any, name: str | None) -> None:
    """Name a task that a factory made; a factory may give a future that has no name."""
    if name is not None and hasattr(task, "set_name"):
        task.set_name(name)
