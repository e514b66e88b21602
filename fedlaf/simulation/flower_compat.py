"""The one file that touches Flower's private parts; the parity test watches over it.

Checked with flwr 1.41 and 1.42: `TaskIdentity` must be set before the first `Message`, a `Run` must exist,
and message ids are set by whoever transports messages.
"""

from __future__ import annotations

import logging

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1
"""Node id of the server in our own grids; clients are numbered from FIRST_NODE."""
FIRST_NODE = 1001


def identify(run_id: int) -> Run:
    """Give this process the identity that a server app runs under."""
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SERVER_NODE
    TaskIdentity.task_id = run_id
    return Run.create_empty(run_id)


def is_simulated(grid: Grid) -> bool:
    """Whether Flower simulates the nodes of this grid: then all of them are there from the start."""
    return type(grid).__name__ == "InMemoryGrid"  # its module has moved before


def set_message_id(message: Message, message_id: str) -> None:
    """What a SuperLink does on receiving a message."""
    message.metadata.__dict__["_message_id"] = message_id


def quiet() -> None:
    """Let Flower's logger speak once, and only from warnings up."""
    logger = logging.getLogger("flwr")
    logger.setLevel(logging.WARNING)
    logger.handlers.clear()


def in_one_line(kind: type[Exception]) -> None:
    """Let Flower report an exception of this kind by its message alone, without a traceback."""

    def shorten(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, kind):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True

    logging.getLogger("flwr").addFilter(shorten)
