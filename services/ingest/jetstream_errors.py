"""Turns errors of JetStream into the typed error that is answered."""

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
    """Turn errors of the block into `Unavailable`.

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
        # Without a description nothing has answered: this server has no JetStream.
        said = f"JetStream refuses: {error.description}" if error.description else reason(error)
        raise Unavailable(said) from error
    except UNREACHABLE as error:
        raise Unavailable(f"JetStream did not answer: {type(error).__name__}") from error
