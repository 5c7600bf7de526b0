"""The digests by which stored events are recognised."""

from __future__ import annotations

import pytest

from services.ingest.event_table.event_keys import digest_of
from services.ingest.incoming_event import EventKey

UUID_7 = "01890a5d-ac96-774b-bcce-b302099a8057"


def digest(id: str, source: str = "posthog", name: str = "e", user_id: str = "anna") -> bytes:
    return digest_of(EventKey(source, id, name, user_id))


def test_the_digest_of_an_id_with_a_time_starts_with_the_time() -> None:
    assert digest(UUID_7)[:6] == bytes.fromhex("01890a5dac96")
    assert digest(UUID_7)[6:] != digest(UUID_7, user_id="ben")[6:]
    assert digest("01890a5d-ac96-474b-bcce-b302099a8057")[:6] != bytes.fromhex("01890a5dac96")


@pytest.mark.parametrize("id", ["x" * 14 + "7" + "x" * 21, "é" * 14 + "7" + " " * 21, "7", ""])
def test_any_id_has_a_digest(id: str) -> None:
    """An error here would turn the event into a dead letter."""
    digests = {digest(id), digest(id, source="api"), digest(id, name="f"), digest(id, user_id="")}
    assert [len(one) for one in digests] == [16] * 4
