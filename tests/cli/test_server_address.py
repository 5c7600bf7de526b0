"""How the server's URL and admin key are chosen (contract 8.1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.server_address import ServerAddress, admin_key_hint, resolve
from tests.cli.running import Cli

FILE = Path(".env")


def test_the_server_url_comes_from_the_flag_the_environment_the_file_or_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = resolve(None, None)
    assert (target.base_url, target.admin_key) == ("http://localhost:3002", None)
    FILE.write_text("HOGSEND_API_URL=https://file.example/\n")
    assert resolve(None, None).base_url == "https://file.example"
    monkeypatch.setenv("HOGSEND_API_URL", "https://environment.example//")
    assert resolve(None, None).base_url == "https://environment.example"
    assert resolve("https://flag.example///", None).base_url == "https://flag.example"


def test_the_admin_key_comes_from_the_flag_the_environment_or_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FILE.write_text("ADMIN_API_KEY=file-admin\n")
    assert resolve(None, None).admin_key == "file-admin"
    FILE.write_text("HOGSEND_ADMIN_KEY=file-hogsend\nADMIN_API_KEY=file-admin\n")
    assert resolve(None, None).admin_key == "file-hogsend"
    monkeypatch.setenv("ADMIN_API_KEY", "environment-admin")
    assert resolve(None, None).admin_key == "environment-admin"
    monkeypatch.setenv("HOGSEND_ADMIN_KEY", "environment-hogsend")
    assert resolve(None, None).admin_key == "environment-hogsend"
    assert resolve(None, "flag").admin_key == "flag"
    monkeypatch.setenv("HOGSEND_ADMIN_KEY", "")
    monkeypatch.setenv("ADMIN_API_KEY", "")
    assert resolve(None, None).admin_key == "file-hogsend"


def test_the_default_url_uses_gateway_port(monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text("GATEWAY_PORT=3903\n")
    assert resolve(None, None).base_url == "http://localhost:3903"
    monkeypatch.setenv("GATEWAY_PORT", " 3904\n")
    assert resolve(None, None).base_url == "http://localhost:3904"
    # The server reports an invalid port. The command must not use it as an address.
    monkeypatch.setenv("GATEWAY_PORT", "tcp://10.0.0.1:80")
    assert resolve(None, None).base_url == "http://localhost:3002"


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("192.0.2.7", "http://192.0.2.7:3903"),
        ("0.0.0.0", "http://127.0.0.1:3903"),
        ("::1", "http://[::1]:3903"),
        ("localhost", "http://localhost:3903"),
        ("no host", "http://localhost:3903"),
    ],
)
def test_the_default_url_uses_gateway_host(host: str, base_url: str) -> None:
    FILE.write_text(f"GATEWAY_HOST={host}\nGATEWAY_PORT=3903\n")
    assert resolve(None, None).base_url == base_url


@pytest.mark.parametrize("name", ["hogsend_api_url", "Gateway_Port", "admin_api_key"])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_variable_in_lower_case_is_refused(
    name: str, in_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_file:
        FILE.write_text(f"{name}=hidden\n")
    else:
        monkeypatch.setenv(name, "hidden")
    with pytest.raises(CommandError) as error:
        resolve(None, None)
    assert error.value.fix == f"write {name.upper()} instead"
    assert "hidden" not in str(error.value)


def test_the_generated_admin_key_is_used_for_its_own_server_only() -> None:
    generated = Path(".hogsend/secrets/admin-api-key")
    generated.parent.mkdir(parents=True)
    generated.write_text("generated\n")
    assert resolve(None, None).admin_key == "generated"
    assert resolve("http://127.0.0.1:3002", None).admin_key == "generated"
    # The key is not sent to another program on this machine or to another machine.
    assert resolve("http://127.0.0.1:3003", None).admin_key is None
    assert resolve("http://hogsend.example:3002", None).admin_key is None
    assert resolve("https://hogsend.example", None).admin_key is None
    assert resolve(None, "flag").admin_key == "flag"
    FILE.write_text("GATEWAY_PORT=3903\n")
    assert resolve("http://localhost:3903", None).admin_key == "generated"
    assert resolve("http://localhost:3002", None).admin_key is None


def test_an_empty_generated_admin_key_counts_as_none() -> None:
    file = Path(".hogsend/secrets/admin-api-key")
    file.parent.mkdir(parents=True)
    file.write_text("\n")
    assert resolve(None, None).admin_key is None


@pytest.mark.parametrize(
    "url", ["https://user@t.example", "https://user:word@t.example", "https://:word@t.example"]
)
def test_a_user_in_the_url_is_refused_and_not_printed(url: str) -> None:
    with pytest.raises(CommandError, match="must not contain a user or password") as refused:
        resolve(url, None)
    assert refused.value.exit_code == ExitCode.USAGE
    assert "word@" not in f"{refused.value.problem} {refused.value.fix}"


@pytest.mark.parametrize(
    "url", ["t.example", "ftp://t.example", "https://", "https://t.example:port", "http:t.example"]
)
def test_an_address_that_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(CommandError, match="is not the URL of a Hogsend server") as refused:
        resolve(url, None)
    assert refused.value.exit_code == ExitCode.USAGE
    assert "--url" in refused.value.fix


def test_the_hint_for_a_missing_key_names_where_the_key_is() -> None:
    local, remote = ServerAddress("http://localhost:3002", None), ServerAddress("https://t", None)
    assert "run the command in its directory" in admin_key_hint(local)
    refused = ServerAddress("http://localhost:3002", "refused")
    for address in (remote, refused):
        assert admin_key_hint(address).endswith("ADMIN_API_KEY")
    file = Path(".hogsend/secrets/admin-api-key")
    file.parent.mkdir(parents=True)
    file.write_text("key")
    assert f"$(cat {file})" in admin_key_hint(local)
    assert admin_key_hint(remote).endswith("ADMIN_API_KEY")


def test_the_admin_key_is_not_in_repr() -> None:
    assert "secret" not in repr(resolve(None, "secret"))


@pytest.mark.parametrize("key", ["first\nsecond", "schlüssel", "a\x00b"])
def test_an_admin_key_with_invalid_characters_is_refused(key: str) -> None:
    assert resolve(None, " key\n").admin_key == "key"
    with pytest.raises(CommandError) as error:
        resolve(None, key)
    assert key not in f"{error.value} {error.value.fix}"


@pytest.mark.parametrize(
    ("url", "plaintext"),
    [
        ("http://localhost:3002", False),
        ("http://127.1:3002", False),
        ("https://t.example.com", False),
        ("http://t.example.com", True),
        ("HTTP://t.example.com", True),
        ("http://192.168.0.2:3002", True),
    ],
)
def test_plain_http_is_detected(url: str, plaintext: bool) -> None:
    assert resolve(url, None).is_plaintext is plaintext


def test_a_request_without_a_key_is_reported_as_one(cli: Cli) -> None:
    outcome = cli("events", "list", url=cli.url)
    problem, fix = outcome.err.splitlines()
    assert problem == "error: 401: Unauthorized: no admin key was given"
    assert fix.endswith("for the stack of `hogsend up`, run the command in its directory")
