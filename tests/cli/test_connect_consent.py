"""`hogsend connect posthog`: the OAuth server, consent in the browser, and its callback (12.10)."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from cli.connect import authorize
from hogsend.posthog.scopes import SCOPES
from tests.cli.fakes import CONNECT_INFO, FakeHogsend, FakePostHog
from tests.cli.recording_server import CannedResponse, RecordedRequest
from tests.cli.running import Cli


@contextmanager
def occupied(*ports: int) -> Iterator[None]:
    """Listen on `ports`, so that no callback server can."""
    with ExitStack() as stack:
        for port in ports:
            server = stack.enter_context(socket.socket())
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
        yield


@pytest.mark.parametrize("status", [404, 410])
def test_case_161_a_posthog_without_an_oauth_server_is_unsupported(
    cli: Cli,
    hogsend: FakeHogsend,
    posthog: FakePostHog,
    callback_ports: tuple[int, ...],
    status: int,
) -> None:
    posthog.discovery = CannedResponse(status, {})
    with occupied(*callback_ports):  # starting a callback server would end with another verdict
        outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "oauth_unsupported"
    hint = outcome.json["hint"]
    for word in ("person:read", "project:read", "hog_function:write", "POSTHOG_PERSONAL_API_KEY"):
        assert word in hint
    assert hogsend.lines == [CONNECT_INFO]


def test_a_posthog_without_client_documents_is_unsupported_before_the_callback_server_starts(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog, callback_ports: tuple[int, ...]
) -> None:
    document = posthog.document
    del document["client_id_metadata_document_supported"]
    posthog.discovery = CannedResponse(200, document)
    with occupied(*callback_ports):
        outcome = cli.connect(json=True)
    assert (outcome.code, outcome.json["verdict"]) == (1, "oauth_unsupported")
    assert "POSTHOG_PERSONAL_API_KEY" in outcome.json["hint"]
    assert hogsend.lines == [CONNECT_INFO]
    # A client id of the operator may be registered in PostHog.
    own = "https://events.example.com/.well-known/oauth-client.json"
    assert cli.connect(client_id=own, json=True).code == 0


def test_case_162_a_callback_with_a_wrong_state_stores_no_credential(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    posthog.consent = {"state": "of-another-run"}
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "state_mismatch"
    assert posthog.exchanges == []
    assert hogsend.lines == [CONNECT_INFO]


def test_case_163_a_denied_consent_stores_no_credential(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    posthog.consent = {"error": "access_denied", "code": ""}
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "consent_denied"
    assert hogsend.lines == [CONNECT_INFO]


@pytest.mark.parametrize("callback", [{"error": "invalid_scope", "code": ""}, {"code": ""}])
def test_a_callback_without_a_code_ends_with_exchange_failed(
    cli: Cli, posthog: FakePostHog, callback: dict[str, str]
) -> None:
    posthog.consent = callback
    outcome = cli.connect(json=True)
    assert outcome.json["verdict"] == "exchange_failed"
    assert callback.get("error", "") in outcome.json["error"]
    assert posthog.exchanges == []


def test_case_164_connect_fails_when_all_callback_ports_are_in_use(
    cli: Cli, hogsend: FakeHogsend, callback_ports: tuple[int, ...]
) -> None:
    with occupied(*callback_ports):
        outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "port_unavailable"
    for port in callback_ports:
        assert str(port) in outcome.json["error"]
    assert hogsend.lines == [CONNECT_INFO]


def test_case_164_the_next_free_port_is_used(
    cli: Cli, posthog: FakePostHog, callback_ports: tuple[int, ...]
) -> None:
    with occupied(*callback_ports[:2]):
        assert cli.connect(json=True).code == 0
    (exchange,) = posthog.exchanges
    assert exchange.form["redirect_uri"] == [f"http://127.0.0.1:{callback_ports[2]}/callback"]


def test_case_166_scopes_that_were_not_granted_are_listed(cli: Cli, posthog: FakePostHog) -> None:
    granted = [scope for scope in SCOPES if scope != "query:read"]
    posthog.tokens["scope"] = " ".join(granted)
    outcome = cli.connect()
    assert "missing: query:read" in outcome.out
    implied = [scope for scope in SCOPES if scope not in {"person:read", "cohort:read"}]
    posthog.tokens["scope"] = " ".join(implied)
    assert "missing:" not in cli.connect().out


@pytest.mark.parametrize("granted", ["", "openid profile email"])
def test_a_grant_without_any_requested_scope_does_not_replace_the_stored_credential(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog, granted: str
) -> None:
    posthog.tokens["scope"] = granted
    outcome = cli.connect(json=True)
    assert (outcome.code, outcome.json["verdict"]) == (1, "exchange_failed")
    assert "none of the scopes" in outcome.json["error"]
    assert "PUT" not in {request.line.partition(" ")[0] for request in hogsend.requests}


def test_a_token_response_without_scopes_grants_the_requested_scopes(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    for key in ("scope", "scoped_teams", "scoped_organizations"):
        del posthog.tokens[key]
    assert cli.connect(json=True).code == 0
    assert hogsend.payload["scopes"] == list(SCOPES)
    assert hogsend.payload["scopedTeams"] == []
    assert hogsend.payload["scopedOrganizations"] == []


def test_the_client_id_flag_is_sent_to_posthog_and_stored_with_the_grant(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    own = "https://t.example.com/.well-known/hogsend-posthog-client.json"
    assert cli.connect(client_id=own, json=True).code == 0
    (authorize,) = [request for request in posthog.requests if request.path == "/oauth/authorize/"]
    assert authorize.query["client_id"] == own
    assert posthog.exchanges[0].form["client_id"] == [own]
    assert hogsend.payload["clientId"] == own


def test_a_missing_consent_times_out(
    cli: Cli,
    hogsend: FakeHogsend,
    callback_ports: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROWSER", "true")
    outcome = cli.connect(json=True, timeout=0.2)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "callback_timeout"
    assert hogsend.lines == [CONNECT_INFO]
    with occupied(*callback_ports):  # fails unless the ports are free again
        pass


@pytest.mark.parametrize("browser", ["false", None])
def test_the_authorize_url_is_printed_when_no_browser_opens(
    cli: Cli,
    callback_ports: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
    browser: str | None,
) -> None:
    monkeypatch.setattr(authorize, "CONTAINER_MARKS", ())
    if browser is None:
        monkeypatch.delenv("BROWSER")
    else:
        monkeypatch.setenv("BROWSER", browser)
    outcome = cli.connect(timeout=0.2)
    assert "no browser could be opened" in outcome.out
    assert "/oauth/authorize/?response_type=code" in outcome.out
    port = callback_ports[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port}" in outcome.out


def test_a_container_gets_a_hint_without_an_ssh_tunnel(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container runs no ssh server, and other machines cannot resolve its host name."""
    monkeypatch.setattr(authorize, "CONTAINER_MARKS", (tmp_path / "none", tmp_path))
    outcome = cli.connect(no_browser=True, timeout=0.2)
    assert "ssh" not in outcome.out
    assert "hogsend connect posthog --url <URL of the gateway>" in " ".join(outcome.out.split())


def test_the_ssh_hint_omits_the_name_of_a_user_without_a_passwd_entry(
    cli: Cli, callback_ports: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.7 22")
    outcome = cli.connect(no_browser=True, timeout=0.2)
    port = callback_ports[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port} 192.0.2.7\n" in outcome.out


def test_a_reloaded_callback_gets_410_during_the_exchange(cli: Cli, posthog: FakePostHog) -> None:
    statuses: list[int] = []

    def reload(request: RecordedRequest) -> None:
        statuses.append(
            httpx.get(request.form["redirect_uri"][0], params={"code": "x"}).status_code
        )

    posthog.during_exchange = reload
    assert cli.connect(json=True).code == 0
    assert statuses == [410]


def test_an_issuer_on_another_host_is_only_a_warning(cli: Cli, posthog: FakePostHog) -> None:
    posthog.issuer = "https://login.example.com"
    outcome = cli.connect(json=True)
    assert outcome.json["verdict"] == "connected"
    assert "https://login.example.com" in outcome.err
    posthog.issuer = f"{posthog.url}/with/a/path"
    assert cli.connect(json=True).err == ""
