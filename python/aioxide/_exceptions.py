"""What becomes of exceptions that nobody awaits."""

from __future__ import annotations

import inspect
import traceback
from asyncio import format_helpers
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from aioxide._aioxide import Handle
from aioxide._room import Room

Context = dict[str, Any]
ExceptionHandler = Callable[[Any, Context], object]

#: Newer versions leave out the arguments of a callback unless in debug mode.
_HIDES_ARGUMENTS = "debug" in inspect.signature(format_helpers._format_callback_source).parameters

#: How the default handler heads the tracebacks that a context may have.
_TRACEBACKS = {
    "source_traceback": "Object created at (most recent call last):\n",
    "handle_traceback": "Handle created at (most recent call last):\n",
}


class ExceptionMethods(Room):
    """The exception handler."""

    def __init__(self) -> None:
        self._exception_handler: ExceptionHandler | None = None
        #: The handle that runs, in debug mode: set by the engine.
        self._current_handle: Handle | None = None
        super().__init__()

    def get_exception_handler(self) -> ExceptionHandler | None:
        """The exception handler, or None when it is the default one."""
        return self._exception_handler

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Set the exception handler, called as handler(loop, context)."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: Context) -> None:
        """Log the context as an error."""
        exception = context.get("exception")
        exc_info: Any = False
        if exception is not None:
            exc_info = (type(exception), exception, exception.__traceback__)
        running = self._current_handle
        if "source_traceback" not in context and running and running._source_traceback:
            context["handle_traceback"] = running._source_traceback
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context):
            if key in {"message", "exception"}:
                continue
            value = context[key]
            if key in _TRACEBACKS:
                shown = _TRACEBACKS[key] + "".join(traceback.format_list(value)).rstrip()
            else:
                shown = repr(value)
            lines.append(f"{key}: {shown}")
        logger.error("\n".join(lines), exc_info=exc_info)

    def call_exception_handler(self, context: Context) -> None:
        """Tell the exception handler. What it raises itself is logged."""
        handler = self._exception_handler
        if handler is None:
            self._call_default_handler(context, "Exception in default exception handler")
            return
        try:
            source = context.get("task") or context.get("future") or context.get("handle")
            own: Any = getattr(source, "get_context", lambda: None)()
            if hasattr(own, "run"):
                own.run(handler, self, context)
            else:
                handler(self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._call_default_handler(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": error,
                    "context": context,
                },
                "Exception in default exception handler "
                "while handling an unexpected error "
                "in custom exception handler",
            )

    def _call_default_handler(self, context: Context, message: str) -> None:
        """A subclass may have its own default handler, which may raise."""
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            logger.error(message, exc_info=True)

    def _callback_failed(self, handle: Handle, exception: BaseException) -> None:
        """Called by the engine when a handle's callback has raised."""
        callback = self._describe_callback(handle)
        context: Context = {
            "message": f"Exception in callback {callback}",
            "exception": exception,
            "handle": handle,
        }
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    def _describe_callback(self, handle: Handle) -> str:
        options = {"debug": self.get_debug()} if _HIDES_ARGUMENTS else {}
        args = () if handle._args is None else handle._args
        return format_helpers._format_callback_source(handle._callback, args, **options)
