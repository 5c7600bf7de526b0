"""Which addresses may be called."""

from __future__ import annotations

import ipaddress

import pytest
from pydantic import ValidationError

from hogsend.contract.errors import InvalidRequest
from hogsend.service.settings.problems import describe_problems
from hogsend.service.settings.shared import OutboundSettings
from hogsend.service.ssrf import AllowedHost, EgressPolicy, is_public

INSIDE = [
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "127.255.0.9",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a00:1::1",
    "2001:db8::1",
    "::10.0.0.1",
    "::ffff:0:169.254.169.254",
    "64:ff9b:1::a9fe:a9fe",
    "fec0::1",
    "3fff::1",
    "5f00::1",
    "192.88.99.1",
    "192.0.0.8",
    "192.0.0.192",
    "::ffff:192.0.0.192",
    "100:0:0:1::1",
    "4000::1",
]
OUTSIDE = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("text", INSIDE)
def test_addresses_inside_are_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", OUTSIDE)
def test_addresses_outside_are(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "allowed"),
    [
        ("10.0.0.0/8", "anything.example", 80, "10.9.9.9", True),
        ("10.0.0.0/8", "anything.example", 80, "192.168.0.1", False),
        ("10.0.0.5", "10.0.0.5", 9, "10.0.0.5", True),
        ("10.0.0.5:8000", "10.0.0.5", 8000, "10.0.0.5", True),
        ("10.0.0.5:8000", "10.0.0.5", 8001, "10.0.0.5", False),
        ("[fd00::5]:8000", "fd00::5", 8000, "fd00::5", True),
        ("fd00::/8", "x", 1, "fd00::5", True),
        ("PostHog.internal", "posthog.internal.", 80, "10.0.0.5", True),
        ("posthog.internal", "evil.internal", 80, "10.0.0.5", False),
        ("posthog.internal:443", "posthog.internal", 80, "10.0.0.5", False),
    ],
)
def test_an_entry_allows_what_it_names(
    entry: str, host: str, port: int, address: str, allowed: bool
) -> None:
    rule = EgressPolicy.of((entry,))
    assert rule.allows(host, port, ipaddress.ip_address(address)) is allowed


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://posthog.internal:8000/oauth/token/", True),
        ("http://posthog.internal:8001/", False),
        ("http://10.1.2.3/", True),
        ("http://192.168.0.1/", False),
        ("http://evil.example/", False),
    ],
)
def test_only_what_is_named_is_named(url: str, named: bool) -> None:
    assert EgressPolicy.of(("posthog.internal:8000", "10.0.0.0/8", "::/0")).names(url) is named


def test_the_operators_own_urls_allow_their_port_only() -> None:
    rule = EgressPolicy.of((), "http://127.0.0.1:8010", None, "https://posthog.internal/prefix")
    here = ipaddress.ip_address("127.0.0.1")
    assert rule.allows("127.0.0.1", 8010, here)
    assert not rule.allows("127.0.0.1", 4222, here)
    assert rule.allows("posthog.internal", 443, ipaddress.ip_address("10.0.0.1"))
    assert not rule.allows("posthog.internal", 80, ipaddress.ip_address("10.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1/x",
        "http://2130706433/",
        "http://0x7f.1:80/",
        "https://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:4222",
        "http://a.localhost",
        "http://169.254.169.254./",
    ],
)
def test_written_addresses_are_refused_at_once_with_the_fix(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"host: .*OUTBOUND_ALLOW"):
        EgressPolicy().check(url, "host")


def test_public_addresses_and_names_pass_the_text_check() -> None:
    for url in ("https://8.8.8.8/x", "https://us.posthog.com/x", "http://inside.example"):
        EgressPolicy().check(url, "host")
    EgressPolicy.of(("127.0.0.1:9",)).check("http://127.0.0.1:9", "host")


@pytest.mark.parametrize("entry", ["http://a.b/", "a b/c", "10.0.0.0/99", "u@h", "h:99999", ":80"])
def test_a_setting_that_means_nothing_is_refused(
    entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"."):
        AllowedHost.parse(entry)
    monkeypatch.setenv("OUTBOUND_ALLOW", f"10.0.0.0/8, {entry}")
    with pytest.raises(ValueError, match="outbound_allow") as refused:
        OutboundSettings()
    assert isinstance(refused.value, ValidationError)
    assert describe_problems(refused.value)[0].startswith("OUTBOUND_ALLOW: ")


def test_the_setting_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOUND_ALLOW", "10.0.0.0/8, posthog.internal:8000")
    assert OutboundSettings().outbound_allow == ("10.0.0.0/8", "posthog.internal:8000")
    monkeypatch.delenv("OUTBOUND_ALLOW")
    assert OutboundSettings().outbound_allow == ()
