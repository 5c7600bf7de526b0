"""The library as others install it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hogsend

OUR_OWN = ("pydantic", "structlog", "prometheus_client", "cryptography", "asyncpg", "litestar")


def test_subscribing_needs_nothing_but_nats_and_msgspec() -> None:
    code = "import sys, hogsend; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"nats", "msgspec"} <= loaded
    assert not loaded & set(OUR_OWN)


def test_the_clients_earlier_name_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"hogsend\.Client"):
        assert hogsend.Bus is hogsend.Client
    with pytest.raises(AttributeError):
        _ = hogsend.Buses
