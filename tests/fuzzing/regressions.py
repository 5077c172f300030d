"""Programs that have shown a fault, shrunk: each with the sentence that was not true."""

from __future__ import annotations

from .callbacks import CallSoon, CancelTask, SetVariable
from .connections import Abort, Close, Connect, PauseReading, React, Write, WriteEof, WriteLines
from .programs import BIG, Program, Raise, Settle
from .servers import Dial, Serve, Serving

REGRESSIONS: dict[str, Program] = {
    "what is written in a callback that fails is sent": Program(
        "tcp",
        (
            Connect(connection=0, left="protocol", right="protocol", tasks=(0, 1)),
            Settle(),
            React(
                end=1,
                on="received",
                after=1,
                steps=(Write(end=1, size=18), Raise(error="LookupError")),
            ),
            Write(end=0, size=1),
        ),
    ),
    "a transport that is written to while it closes is lost when all is sent": Program(
        "tcp",
        (
            Connect(connection=0, left="protocol", right="protocol", tasks=(0, 1)),
            Settle(),
            React(end=1, on="resume_writing", after=0, steps=(Write(end=1, size=678),)),
            Write(end=1, size=BIG),
            Close(end=1),
        ),
    ),
    "writelines() after the end is one write that is lost": Program(
        "tcp",
        (
            Connect(connection=0, left="protocol", right="stream", tasks=(0, 1)),
            Settle(),
            Abort(end=1),
            WriteLines(end=1, sizes=(5, 6, 7)),
            Write(end=1, size=1),
            Write(end=1, size=1),
        ),
    ),
    "writelines() of nothing is refused after write_eof()": Program(
        "tcp",
        (
            Connect(connection=0, left="protocol", right="buffered", tasks=(0, 1)),
            Settle(),
            WriteEof(end=0),
            WriteLines(end=0, sizes=()),
        ),
    ),
    "write_eof() finds out first that what was written cannot be sent": Program(
        "tcp",
        (
            Connect(connection=0, left="protocol", right="stream", tasks=(0, 1)),
            Settle(),
            PauseReading(end=1),
            CallSoon(handle=1, steps=(Abort(end=0),)),
            Write(end=1, size=17719),
            Settle(),
            Write(end=1, size=1728),
            WriteEof(end=1),
            Write(end=1, size=1008),
        ),
    ),
    "a closed server is not awaited on serve_forever()": Program(
        "tcp",
        (
            Serve(server=0, task=0, shape="buffered", start=False),
            Settle(),
            Serving(server=0, what="serve_forever", task=1),
            Settle(),
            Serving(server=0, what="close", task=2),
            Serving(server=0, what="serve_forever", task=3),
        ),
    ),
    "clients of a server run in the context in which it was started": Program(
        "tcp",
        (
            Serve(server=0, task=0, shape="buffered", start=False),
            SetVariable(value=81),
            Settle(),
            Serving(server=0, what="start_serving", task=3),
            Dial(connection=0, server=0, shape="buffered", task=10),
        ),
    ),
    "wait_closed() of a server that is closed and empty does not wait": Program(
        "tcp",
        (
            Serve(server=0, task=0, shape="stream"),
            Settle(),
            Serving(server=0, what="close", task=1),
            Serving(server=0, what="wait_closed", task=2),
            CallSoon(handle=5, how="later", steps=(CancelTask(task=2),)),
        ),
    ),
}
