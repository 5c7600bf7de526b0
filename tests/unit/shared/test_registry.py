"""Endpoints and channels are declared once."""

from __future__ import annotations

import pytest

from hogsend.contract import registry
from hogsend.contract.base import Empty
from hogsend.contract.events import INGEST_EVENTS
from hogsend.contract.registry import Endpoint


def test_a_second_endpoint_on_a_subject_is_refused_and_replaces_none() -> None:
    """It would otherwise replace the permissions and the documentation of the first one."""
    with pytest.raises(ValueError, match=r"hogsend\.rpc\.ingest\.events is declared twice"):
        Endpoint(
            service=INGEST_EVENTS.service,
            verb=INGEST_EVENTS.verb,
            request=Empty,
            reply=Empty,
            callers=(),
            summary="Another one.",
        )
    assert INGEST_EVENTS in registry.endpoints()
