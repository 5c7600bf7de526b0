"""Files for TLS to NATS: what is of no use is said before anything starts, by its setting."""

from __future__ import annotations

import os
import pty
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cli.bus_address import operator_address, subscriber_address
from cli.errors import CommandError
from cli.stack.settings import problems
from hogsend.client.address import tls_from_environment
from hogsend.contract.errors import InvalidRequest
from hogsend.service.settings.shared import BusSettings
from tests.pki import Pki, make_pki

NAMES = ("NATS_TLS_CA", "NATS_TLS_CERT", "NATS_TLS_KEY")
Given = dict[str, str]


LOADING = (
    "import sys; from hogsend.transport.tls import client_context; "
    "client_context(None, *sys.argv[1:])"
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("tls") / "pki")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NATS_URL", *NAMES):
        monkeypatch.delenv(name, raising=False)


def files(pki: Pki, directory: Path) -> dict[str, str]:
    """What a setting may name, by a word for it."""
    text = directory / "text.pem"
    text.write_text("no certificate")
    locked = directory / "locked.pem"
    key = serialization.load_pem_private_key(pki.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    both = directory / "both.pem"
    both.write_bytes(pki.certificate.read_bytes() + pki.key.read_bytes())
    other = make_pki(directory / "other")
    return {
        "missing": str(directory / "missing.pem"),
        "directory": str(directory),
        "text": str(text),
        "authority": str(pki.ca),
        "certificate": str(pki.certificate),
        "key": str(pki.key),
        "locked": str(locked),
        "both": str(both),
        "other": str(other.key),
    }


WRONG = [
    ({"NATS_TLS_CA": "missing"}, "NATS_TLS_CA: it is not a file that can be read"),
    ({"NATS_TLS_CA": "directory"}, "NATS_TLS_CA: it is not a file that can be read"),
    ({"NATS_TLS_CA": "text"}, "NATS_TLS_CA: what it names holds no certificate"),
    ({"NATS_TLS_CA": "key"}, "NATS_TLS_CA: what it names holds no certificate"),
    ({"NATS_TLS_CERT": "missing"}, "NATS_TLS_CERT: it is not a file that can be read"),
    ({"NATS_TLS_CERT": "certificate"}, "NATS_TLS_KEY: it is unset"),
    ({"NATS_TLS_CERT": "text"}, "NATS_TLS_KEY: it is unset"),
    ({"NATS_TLS_KEY": "key"}, "NATS_TLS_KEY: it is of no use without a certificate"),
    (
        {"NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "missing"},
        "NATS_TLS_KEY: it is not a file that can be read",
    ),
    (
        {"NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "other"},
        "NATS_TLS_KEY: it is not the key of the certificate",
    ),
    (
        {"NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "locked"},
        "NATS_TLS_KEY: it is not the key of the certificate",
    ),
]
RIGHT: list[Given] = [
    {"NATS_TLS_CA": "authority"},
    {"NATS_TLS_CERT": "both"},
    {"NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "key"},
    {"NATS_TLS_CA": "authority", "NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "key"},
]


def give(given: Given, pki: Pki, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = files(pki, directory)
    for name, word in given.items():
        monkeypatch.setenv(name, known[word])


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_a_file_that_is_of_no_use_stops_everything_that_would_use_it(
    given: Given, said: str, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(given, pki, tmp_path, monkeypatch)
    (problem,) = problems()
    assert problem.startswith(said)
    with pytest.raises(InvalidRequest, match=said):
        tls_from_environment()
    for address in (operator_address, subscriber_address):
        with pytest.raises(CommandError, match=said):
            address(None)


def test_nobody_is_asked_for_the_password_of_a_key(pki: Pki, tmp_path: Path) -> None:
    known = files(pki, tmp_path)
    child, terminal = pty.fork()
    if child == 0:
        arguments = [known["certificate"], known["locked"]]
        os.execv(sys.executable, [sys.executable, "-c", LOADING, *arguments])  # noqa: S606
    said = b""
    # Whoever asks waits: then nothing more is read.
    with suppress(OSError):
        while b"pass phrase" not in said and (more := os.read(terminal, 4096)):
            said += more
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"SSLError" in said
    assert b"pass phrase" not in said


@pytest.mark.parametrize("given", RIGHT)
def test_files_that_belong_together_are_taken(
    given: Given, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(given, pki, tmp_path, monkeypatch)
    assert problems() == []
    assert tls_from_environment() is not None


def test_without_any_nothing_insists_on_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, " ")
    assert tls_from_environment() is None
    assert BusSettings().nats_tls_ca is None


def test_the_library_reads_paths_as_services_do(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pki.ca.parent))
    monkeypatch.setenv("NATS_TLS_CA", f" ~/{pki.ca.name}\n")
    assert tls_from_environment() is not None
    assert BusSettings().nats_tls_ca == pki.ca
