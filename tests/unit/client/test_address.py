"""The NATS address and user of a service, from arguments and the environment."""

from __future__ import annotations

import logging

import pytest

from hogsend.client.address import DEFAULT_URL, connection_to
from hogsend.contract.errors import InvalidRequest
from hogsend.faststream import HogsendBroker
from hogsend.transport.addresses import without_password
from hogsend.transport.tls import TlsClient


def ignore(_event: str, _detail: str) -> None:
    """Ignore events."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NATS_URL", "NATS_TLS_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "user"),
    [
        (None, "subscriber"),
        ("nats://10.0.0.1:4222", "subscriber"),
        ("nats://app:s3cret@10.0.0.1:4222", "app"),
        ("app:s3cret@10.0.0.1:4222", "app"),
        ("nats://app:s3/cr#e@t@10.0.0.1:4222", "app"),
        ("nats://app:s3cret@10.0.0.1:4222,nats://app:s3cret@10.0.0.2:4222", "app"),
    ],
)
def test_the_user_is_taken_from_the_address(url: str | None, user: str) -> None:
    connection = connection_to(url, user="subscriber", tls=None, observer=ignore)
    assert connection.user == user
    assert ",".join(connection.addresses) == (url or DEFAULT_URL)


def test_tls_files_of_the_environment_can_be_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NATS_TLS_CA", "/etc/hogsend/tls/ca.pem")
    with pytest.raises(InvalidRequest, match="NATS_TLS_CA"):
        connection_to(DEFAULT_URL, user="subscriber", tls=None, observer=ignore)
    connection_to(DEFAULT_URL, user="subscriber", tls=False, observer=ignore)


def test_nats_url_of_the_environment_is_the_default_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NATS_URL", "nats://app:word@bus.example:4222")
    connection = connection_to(None, user="subscriber", tls=None, observer=ignore)
    assert (connection.user, connection.addresses) == ("app", ["nats://app:word@bus.example:4222"])


@pytest.mark.parametrize(
    "url",
    [
        "nats://app:s3,cret@bus.example:4222",
        "nats://app:4222,s3cret@bus.example:4222",
        "nats://app:s,3,cret@bus.example:4222",
        "nats://app:word@one:4222,nats://app:s3,cret@two:4222",
    ],
)
def test_a_password_with_a_comma_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidRequest, match="%2C") as refused:
        connection_to(url, user="subscriber", tls=None, observer=ignore)
    assert "cret" not in str(refused.value)
    escaped = "nats://app:s3%2Ccret@bus.example:4222,10.0.0.2:4222"
    assert connection_to(escaped, user="subscriber", tls=None, observer=ignore).user == "app"


@pytest.mark.parametrize(
    "url",
    [
        "nats://app:s3cret@bus.example:4222,",
        ",nats://app:s3cret@bus.example:4222",
        "nats://app:s3cret@bus.example:port",
        "nats://app:s3cret@bus.example:99999",
        "nats://app:s3cret@",
        "http://app:s3cret@bus.example:4222",
    ],
)
def test_an_invalid_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidRequest, match="nats://host:4222") as refused:
        connection_to(url, user="subscriber", tls=None, observer=ignore)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "bus.example",
        "localhost:4222, 10.0.0.2:4222 ,nats://[fd00::2]:4222",
        "nats://t0ken@bus.example:4222",
        "tls://app:s/3?c#r[e]t@bus.example:4222",
        "wss://app:s3cret@bus.example",
        "NATS://app:s3cret@bus.example",
    ],
)
def test_each_form_of_an_address_is_accepted(url: str) -> None:
    connection = connection_to(url, user="subscriber", tls=None, observer=ignore)
    assert ",".join(connection.addresses) == url


@pytest.mark.parametrize("url", ["tls://app:s3cret@one", "nats://one, TLS://app:s3cret@two"])
def test_a_tls_address_requires_tls_in_any_case(url: str) -> None:
    connection = connection_to(url, user="subscriber", tls=None, observer=ignore)
    assert isinstance(connection.client, TlsClient)


def test_a_deprecated_user_is_logged_with_its_new_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        HogsendBroker("nats://member:s3cret@bus.example:4222")
    assert caplog.messages == ["the NATS user member is deprecated: use app"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://app:s3cret@bus.example:4222", "nats://bus.example:4222"),
        ("app:s3cret@bus.example", "bus.example"),
        ("nats://app:s3/cr@et@bus.example", "nats://bus.example"),
        ("nats://app:s3://cret@bus.example", "nats://bus.example"),
        ("tls://t0ken@bus.example", "tls://bus.example"),
        ("nats://app:s3,cret@bus.example", "bus.example"),
        ("nats://app:s,3,cret@bus.example,nats://app:s3cret@two", "bus.example,nats://two"),
        ("nats://one:4222, app:s3cret@two:4222", "two:4222"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert without_password(url) == shown
