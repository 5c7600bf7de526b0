"""The library as other people install it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

import hogsend
from hogsend.client.first_connection import ConnectionLog

SERVICE_DEPENDENCIES = (
    "pydantic",
    "structlog",
    "prometheus_client",
    "cryptography",
    "asyncpg",
    "litestar",
)


def test_subscribing_needs_nothing_but_nats_and_msgspec() -> None:
    code = "import sys, hogsend; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"nats", "msgspec"} <= loaded
    assert not loaded & set(SERVICE_DEPENDENCIES)


LIGHT = """
import importlib, importlib.machinery, pkgutil, sys

class Light(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        light = name.partition(".")[0] in {"hogsend", "msgspec", "nats", "tzdata"}
        if spec and not light and "site-packages" in (spec.origin or ""):
            return None
        return spec

sys.meta_path = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder] + [Light]
import hogsend
for module in pkgutil.walk_packages(hogsend.__path__, "hogsend."):
    # Only pydantic itself asks for its schemas.
    extras = ("service", "faststream", "posthog", "contract.pydantic_schema")
    if not module.name.removeprefix("hogsend.").startswith(extras):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_a_light_install_imports_everything_but_the_extras() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"hogsend.client.client", "hogsend.transport.consumer"} <= set(done.stdout.split())


def test_the_documented_names_are_exported() -> None:
    documented = {"Condition", "CredentialChanged", "Event", "Forbidden", "InvalidRequest"}
    assert documented | {"Client", "connect", "next_moment", "Unavailable"} <= set(hogsend.__all__)
    assert all(hasattr(hogsend, name) for name in hogsend.__all__)


def test_the_last_error_of_a_connection_is_kept_and_each_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = ConnectionLog(logging.getLogger("hogsend.client.client"))
    for number in range(3):
        events("error", f"failure {number}")
    assert events.last_error == "failure 2"
    assert not [value for value in vars(events).values() if "failure 1" in str(value)]
    assert not events.refused.is_set()
    assert caplog.messages == ["NATS: failure 0", "NATS: failure 1", "NATS: failure 2"]


def test_the_clients_earlier_name_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"hogsend\.Client"):
        assert hogsend.Bus is hogsend.Client
    with pytest.raises(AttributeError):
        _ = hogsend.Buses
