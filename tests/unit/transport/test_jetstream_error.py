"""What JetStream's reply to a publish means for the message: try again, or give it up."""

from __future__ import annotations

import pytest

from hogsend.contract.errors import HogsendError, PublishRejected, TooLarge, Unavailable
from hogsend.transport.jetstream_error import JetStreamError, WrongLastSequence, publish_error


@pytest.mark.parametrize(
    ("code", "err_code", "kind"),
    [
        (400, 10054, TooLarge),  # the message
        (400, 10097, TooLarge),  # its headers
        (400, 10071, WrongLastSequence),
        (400, 10164, WrongLastSequence),
        (400, 10060, PublishRejected),  # another stream was expected
        (413, 0, PublishRejected),
        (400, 10002, Unavailable),  # the account is full until messages are consumed
        (503, 10077, Unavailable),  # the stream is full
        (503, 10008, Unavailable),  # no leader
    ],
)
def test_only_an_error_that_a_retry_cannot_change_is_permanent(
    code: int, err_code: int, kind: type[HogsendError]
) -> None:
    error = publish_error(JetStreamError(code, err_code, "because"))
    assert type(error) is kind
