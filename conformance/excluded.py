"""The list: tests that are not run on aioxide, a reason for each. Nothing else is left out.

What stands here tests the insides of the standard library's loop: a class that aioxide does not
use, a mock where only that loop looks, an attribute that is private to it.
A test that looks at what a program can see does not belong here, whatever aioxide makes of it.

A pattern is matched with `module.Class.test`. An entry is for the versions from `since` on and
before `before`. `python -m conformance.run --excluded` runs what the list leaves out and says what
passes: those entries can go.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field

Version = tuple[int, ...]


@dataclass(frozen=True)
class Excluded:
    """Tests that are left out, and why."""

    pattern: str
    reason: str
    since: Version = ()
    before: Version = (4,)


@dataclass(frozen=True)
class Heading:
    """What some entries have in common. The counts are by heading."""

    title: str
    tests: tuple[Excluded, ...]


@dataclass(frozen=True)
class Entry:
    """An entry, with the title of its heading."""

    heading: str
    excluded: Excluded = field(repr=False)


WINDOWS = Heading(
    "for Windows: the proactor's loop and transports, on mocks",
    (Excluded("test_proactor_events.*", "asyncio.proactor_events"),),
)

CLASSES = Heading(
    "a class of asyncio's that aioxide does not use, made by the test",
    (
        Excluded("test_selector_events.SelectorTransportTests.*", "_SelectorTransport"),
        Excluded("test_selector_events.SelectorSocketTransport*", "_SelectorSocketTransport"),
        Excluded("test_selector_events.SelectorDatagram*", "_SelectorDatagramTransport"),
        Excluded("test_unix_events.UnixReadPipeTransportTests.*", "_UnixReadPipeTransport"),
        Excluded("test_unix_events.UnixWritePipeTransportTests.*", "_UnixWritePipeTransport"),
        Excluded(
            "test_base_events.BaseLoopSockSendfileTests.test_sock_sendfile_no_fallback",
            "BaseSelectorEventLoop, which does not know the kernel's sendfile",
        ),
    ),
)

MOCKS = Heading(
    "a mock where only the standard loop looks: its selector, its modules, its own calls",
    (
        Excluded("test_base_events.*.test_run_forever_pre_stopped", "loop._selector"),
        Excluded(
            "test_base_events.*.test_single_selecter_event_callback_after_stopping",
            "loop._selector, loop._process_events",
        ),
        *(
            Excluded(f"test_base_events.*.{test}", "the socket module of base_events")
            for test in (
                "test_create_connection_bluetooth",
                "test_create_connection_connect_non_os_err_close_err",
                "test_create_connection_happy_eyeballs_empty_exceptions",
                "test_create_connection_ip_addr",
                "test_create_connection_ipv6_scope",
                "test_create_connection_multiple_errors",
                "test_create_connection_no_inet_pton",
                "test_create_connection_service_name",
                "test_create_connection_timeout",
                "test_create_connection_transport_error_closes_sock",
                "test_create_datagram_endpoint_cant_bind",
                "test_create_datagram_endpoint_ip_addr",
                "test_create_datagram_endpoint_no_addrinfo",
                "test_create_datagram_endpoint_nosoreuseport",
                "test_create_datagram_endpoint_setblk_err",
                "test_create_datagram_endpoint_socket_err",
                "test_create_server_cant_bind",
                "test_create_server_nosoreuseport",
                "test_create_server_soreuseport_only_defined",
            )
        ),
        *(
            Excluded(f"test_base_events.*.{test}", "loop.sock_connect, called by create_*")
            for test in (
                "test_create_connection_connect_err",
                "test_create_connection_multiple",
                "test_create_connection_multiple_errors_local_addr*",
                "test_create_datagram_endpoint_connect_err",
            )
        ),
        *(
            Excluded(f"test_selector_events.BaseSelectorEventLoopTests.{test}", "loop._selector")
            for test in (
                "test_accept_connection_*",
                "test_add_*",
                "test_close*",
                "test_make_*",
                "test_process_events_*",
                "test_read_from_self_*",
                "test_remove_*",
                "test_write_to_self_*",
            )
        ),
        Excluded(
            "test_events.*.test_create_server_multiple_hosts_ipv*",
            "the socket module of base_events, loop._start_serving",
        ),
        Excluded("test_sendfile.*.test_sendfile_force_unsupported_native", "loop._sendfile_native"),
        *(
            Excluded(f"test_subprocess.*.{test}", "loop.connect_*_pipe, called by subprocess_exec")
            for test in ("test_pause_reading", "test_subprocess_*_pipe_cancelled")
        ),
        Excluded(
            "test_sslproto.*.test_create_connection_ssl_failed_certificate_no_cycles",
            "asyncio.sslproto.SSLProtocol.connection_made",
        ),
        Excluded(
            "test_unix_events.*.test_create_unix_server_bind_error",
            "the socket module of unix_events",
        ),
        Excluded("test_unix_events.*.test_pidfd_closed_when_waitpid_raises", "os.waitpid"),
        *(
            Excluded(
                f"test_unix_events.SelectorEventLoopSignalTests.{test}",
                "counts the calls of signal.set_wakeup_fd",
            )
            for test in (
                "test_add_signal_handler_install_error3",
                "test_close",
            )
        ),
        Excluded(
            "test_unix_events.SelectorEventLoopSignalTests.test_add_signal_handler_install_error",
            "a signal.set_wakeup_fd that gives nothing back",
        ),
    ),
)

PRIVATE = Heading(
    "private attributes and methods",
    (
        Excluded("test_base_events.BaseEventLoopTests.test__add_callback_*", "loop._add_callback"),
        Excluded(
            "test_base_events.BaseEventLoopTests.test__run_once", "loop._scheduled, loop._selector"
        ),
        Excluded(
            "test_base_events.BaseEventLoopTests.test__run_once_schedule_handle", "loop._scheduled"
        ),
        Excluded(
            "test_base_events.BaseEventLoopTests.test__run_once_cancelled_event_cleanup",
            "loop._timer_cancelled_count, loop._scheduled",
        ),
        Excluded("test_base_events.BaseEventLoopTests.test_call_later", "loop._scheduled"),
        Excluded("test_base_events.BaseEventLoopTests.test_call_soon", "loop._ready"),
        Excluded(
            "test_base_events.BaseEventLoopTests.test_not_implemented",
            "loop._make_socket_transport",
        ),
        Excluded(
            "test_base_events.*.test_create_connection_ssl_server_hostname_default",
            "loop._make_ssl_transport",
        ),
        Excluded(
            "test_base_events.BaseEventLoopTests.test_custom_run_forever_integration",
            "loop._run_forever_setup, loop._process_events",
        ),
        Excluded("test_base_events.*.test_accept_connection_*", "loop._accept_connection"),
        Excluded("test_base_events.*.test__sock_sendfile_native_*", "loop._sock_sendfile_native"),
        Excluded("test_events.*.test_internal_fds", "loop._internal_fds, loop._csock, loop._ssock"),
        Excluded("test_events.*.test_timeout_rounding", "counts the calls of loop._run_once"),
        Excluded("test_sslproto.*.test_connection_lost_when_busy", "loop._make_socket_transport"),
        Excluded("test_ssl.*.test_flush_before_shutdown", "transport._ssl_protocol"),
        Excluded(
            "test_ssl.*.test_remote_shutdown_receives_trailing_data*",
            "transport._test__append_write_backlog",
        ),
        Excluded("test_events.*.test_unclosed_pipe_transport", "transport._pipe, which it sets"),
        Excluded(
            "test_server.TestServer2.test_wait_closed_*",
            "server._attach, server._detach",
            since=(3, 12),
            before=(3, 13),
        ),
        Excluded("test_subprocess.*.test_pid_not_reaped_before_exit_published", "loop._watcher"),
        Excluded("test_subprocess.*.test_watcher_implementation", "loop._watcher"),
        Excluded("test_unix_events.*.test_check_signal", "loop._check_signal"),
        Excluded("test_unix_events.*.test_sock_sendfile_*", "loop._sock_sendfile_native"),
    ),
)

#: A heading that is taken out of here has its tests run.
LIST = (
    WINDOWS,
    CLASSES,
    MOCKS,
    PRIVATE,
)


def for_version(version: Version, headings: Iterable[Heading] = LIST) -> list[Entry]:
    """The entries that are for a version of Python."""
    return [
        Entry(heading.title, excluded)
        for heading in headings
        for excluded in heading.tests
        if excluded.since <= version < excluded.before
    ]


def find(entries: Iterable[Entry], test: str) -> Entry | None:
    """The first entry for a test, named `module.Class.test`."""
    for entry in entries:
        if fnmatch.fnmatchcase(test, entry.excluded.pattern):
            return entry
    return None
