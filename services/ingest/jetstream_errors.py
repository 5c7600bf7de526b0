"""Converts errors of JetStream to the typed error that is returned to callers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nats.js import errors as js_errors

from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.service.streams import reason
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE


@contextmanager
def available(connection: Connection) -> Iterator[None]:
    """Convert errors of nats-py in the block to `Unavailable`.

    Raises:
        Unavailable: JetStream does not answer, or refuses.
    """
    if not connection.connected:
        raise Unavailable("NATS is not connected")
    try:
        yield
    except HogsendError:
        raise
    except js_errors.APIError as error:
        # An error without a description is not a reply: this server has no JetStream.
        text = f"JetStream refuses: {error.description}" if error.description else reason(error)
        raise Unavailable(text) from error
    except UNREACHABLE as error:
        raise Unavailable(f"JetStream did not answer: {type(error).__name__}") from error
