"""TLS files for NATS: an unusable file is reported at start, by its setting."""

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
Variables = dict[str, str]
"""A word for the file that each variable names, as `make_files` returns it."""

LOAD_CERTIFICATE = (
    "import sys; from hogsend.transport.tls import client_context; "
    "client_context(None, *sys.argv[1:])"
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("tls") / "pki")


@pytest.fixture(autouse=True)
def no_settings_of_nats(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NATS_URL", *NAMES):
        monkeypatch.delenv(name, raising=False)


def make_files(pki: Pki, directory: Path) -> dict[str, str]:
    """Create the files that settings name; return their paths by a word for each."""
    text = directory / "text.pem"
    text.write_text("no certificate")
    encrypted = directory / "encrypted.pem"
    key = serialization.load_pem_private_key(pki.key.read_bytes(), None)
    encrypted.write_bytes(
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
        "too long": str(directory / ("x" * 300)),
        "directory": str(directory),
        "text": str(text),
        "authority": str(pki.ca),
        "certificate": str(pki.certificate),
        "key": str(pki.key),
        "encrypted": str(encrypted),
        "both": str(both),
        "other": str(other.key),
    }


UNUSABLE = [
    ({"NATS_TLS_CA": "missing"}, "NATS_TLS_CA: it is not a file that can be read"),
    ({"NATS_TLS_CA": "too long"}, "NATS_TLS_CA: it is not a file that can be read"),
    ({"NATS_TLS_CA": "directory"}, "NATS_TLS_CA: it is not a file that can be read"),
    ({"NATS_TLS_CA": "text"}, "NATS_TLS_CA: it contains no certificate"),
    ({"NATS_TLS_CA": "key"}, "NATS_TLS_CA: it contains no certificate"),
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
        {"NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "encrypted"},
        "NATS_TLS_KEY: it is not the key of the certificate",
    ),
]
USABLE: list[Variables] = [
    {"NATS_TLS_CA": "authority"},
    {"NATS_TLS_CERT": "both"},
    {"NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "key"},
    {"NATS_TLS_CA": "authority", "NATS_TLS_CERT": "certificate", "NATS_TLS_KEY": "key"},
]


def set_variables(
    variables: Variables, pki: Pki, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_files(pki, directory)
    for name, word in variables.items():
        monkeypatch.setenv(name, files[word])


@pytest.mark.parametrize(("variables", "message"), UNUSABLE)
def test_an_unusable_file_is_refused_by_services_the_library_and_the_command(
    variables: Variables, message: str, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(variables, pki, tmp_path, monkeypatch)
    (problem,) = problems()
    assert problem.startswith(message)
    with pytest.raises(InvalidRequest, match=message):
        tls_from_environment()
    for address in (operator_address, subscriber_address):
        with pytest.raises(CommandError, match=message):
            address(None)


def test_openssl_does_not_prompt_for_the_password_of_an_encrypted_key(
    pki: Pki, tmp_path: Path
) -> None:
    files = make_files(pki, tmp_path)
    child, terminal = pty.fork()
    if child == 0:
        arguments = [files["certificate"], files["encrypted"]]
        os.execv(sys.executable, [sys.executable, "-c", LOAD_CERTIFICATE, *arguments])  # noqa: S606
    output = b""
    # A prompt would wait for input, and reading until the end would not return.
    with suppress(OSError):
        while b"pass phrase" not in output and (more := os.read(terminal, 4096)):
            output += more
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"SSLError" in output
    assert b"pass phrase" not in output


@pytest.mark.parametrize("variables", USABLE)
def test_files_that_belong_together_are_accepted(
    variables: Variables, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(variables, pki, tmp_path, monkeypatch)
    assert problems() == []
    assert tls_from_environment() is not None


def test_tls_is_not_required_when_no_file_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, " ")
    assert tls_from_environment() is None
    assert BusSettings().nats_tls_ca is None


def test_the_library_expands_paths_as_the_services_do(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(pki.ca.parent))
    monkeypatch.setenv("NATS_TLS_CA", f" ~/{pki.ca.name}\n")
    assert tls_from_environment() is not None
    assert BusSettings().nats_tls_ca == pki.ca
