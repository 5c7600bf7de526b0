"""Event names and durable names of `Client.events`: their filters, and invalid names."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.client.subscriptions import events_consumer
from hogsend.contract.errors import InvalidRequest

SIGNED_UP, PAID = "hogsend.events.signed_up", "hogsend.events.invoice%2Epaid"


@pytest.mark.parametrize(
    ("names", "filter_subject", "filter_subjects"),
    [
        (None, "hogsend.events.*", None),
        ("signed_up", SIGNED_UP, None),
        (["signed_up"], SIGNED_UP, None),
        (["signed_up", "signed_up"], SIGNED_UP, None),
        (("signed_up", "invoice.paid"), None, [PAID, SIGNED_UP]),
        (["invoice.paid", "signed_up"], None, [PAID, SIGNED_UP]),
        # Names that look like NATS wildcards are valid names of events.
        ("5 * stars", "hogsend.events.5%20%2A%20stars", None),
        ("a > b", "hogsend.events.a%20%3E%20b", None),
    ],
)
def test_event_names_become_filter_subjects(
    names: Any, filter_subject: str | None, filter_subjects: list[str] | None
) -> None:
    config = events_consumer(names, "mailer")
    assert (config.filter_subject, config.filter_subjects) == (filter_subject, filter_subjects)


@pytest.mark.parametrize(
    "names",
    [
        "",
        " ",
        "\t",
        "*",
        ">",
        "user.*",
        "user.>",
        [],
        (),
        [""],
        ["a", "*"],
        [None],
        [1],
        1,
        b"a",
        {},
    ],
)
def test_invalid_event_names_are_refused(names: Any) -> None:
    with pytest.raises(InvalidRequest):
        events_consumer(names, None)


@pytest.mark.parametrize(
    "durable", ["", " ", "a b", "a.b", "a*", ">", "a/b", "a\\b", "a\n", "x" * 256, 1, b"a"]
)
def test_a_durable_name_that_jetstream_does_not_accept_is_refused(durable: Any) -> None:
    with pytest.raises(InvalidRequest):
        events_consumer("signed_up", durable)
