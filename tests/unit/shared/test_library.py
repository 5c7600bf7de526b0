"""The library as users install it: what it imports, exports and logs."""

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


def test_importing_the_library_loads_none_of_the_services_dependencies() -> None:
    code = "import sys, hogsend; print(*{name.partition('.')[0] for name in sys.modules})"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(process.stdout.split())
    assert {"nats", "msgspec"} <= loaded
    assert not loaded & set(SERVICE_DEPENDENCIES)


IMPORT_WITHOUT_EXTRAS = """
import importlib, importlib.machinery, pkgutil, sys

class Required(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        required = name.partition(".")[0] in {"hogsend", "msgspec", "nats", "tzdata"}
        if spec and not required and "site-packages" in (spec.origin or ""):
            return None
        return spec

sys.meta_path = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder] + [Required]
import hogsend
for module in pkgutil.walk_packages(hogsend.__path__, "hogsend."):
    # Only pydantic imports the module with its schemas.
    extras = ("service", "faststream", "posthog", "contract.pydantic_schema")
    if not module.name.removeprefix("hogsend.").startswith(extras):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_every_module_outside_the_extras_imports_with_the_required_packages_only() -> None:
    process = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_EXTRAS], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert {"hogsend.client.client", "hogsend.transport.consumer"} <= set(process.stdout.split())


def test_the_documented_names_are_exported() -> None:
    documented = {"Condition", "CredentialChanged", "Event", "Forbidden", "InvalidRequest"}
    assert documented | {"Client", "connect", "next_moment", "Unavailable"} <= set(hogsend.__all__)
    assert all(hasattr(hogsend, name) for name in hogsend.__all__)


def test_a_connection_log_logs_every_error_and_keeps_the_last_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = ConnectionLog(logging.getLogger("hogsend.client.client"))
    for number in range(3):
        log("error", f"failure {number}")
    assert log.last_error == "failure 2"
    assert not [value for value in vars(log).values() if "failure 1" in str(value)]
    assert not log.refused.is_set()
    assert caplog.messages == ["NATS: failure 0", "NATS: failure 1", "NATS: failure 2"]


def test_the_deprecated_name_of_the_client_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"hogsend\.Client"):
        assert hogsend.Bus is hogsend.Client
    with pytest.raises(AttributeError):
        _ = hogsend.Buses
