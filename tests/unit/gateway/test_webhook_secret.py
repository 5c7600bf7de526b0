"""The webhook secret: its sources, and which secret counts while credentials does not reply."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
from granian.server.embed import Server
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_WEBHOOK_SECRET, WebhookSecretReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.gateway.app import create_app
from services.gateway.parts import build_parts
from services.gateway.settings import GatewaySettings
from services.gateway.webhooks.secret import SecretCheck, WebhookSecret
from tests.unit.gateway.fakes import FakeConnection
from tests.virtual_time import settle
from tests.waiting import eventually

ABSENT = WebhookSecretReply(version=1, state="absent")
UNREADABLE = WebhookSecretReply(version=1, state="unreadable")
UNAVAILABLE = Unavailable("the credentials service is not running")


def minted(secret: str, version: int = 1) -> WebhookSecretReply:
    digest = sha256(secret.encode()).hexdigest()
    return WebhookSecretReply(version=version, state="present", sha256=digest)


@pytest.fixture
def bus() -> FakeConnection:
    return FakeConnection()


def secret_of(
    bus: FakeConnection,
    configured: str | None = None,
    cache: Path | None = None,
    *,
    may_be_open: bool | None = None,
) -> WebhookSecret:
    watcher = CredentialWatcher("posthog")
    return WebhookSecret(bus, watcher, configured, cache, may_be_open=may_be_open)


def names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


async def refresh_with(
    bus: FakeConnection, secret: WebhookSecret, reply: WebhookSecretReply
) -> None:
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, reply)
    await secret.refresh()


def test_a_configured_secret_is_compared_byte_by_byte(bus: FakeConnection) -> None:
    secret = secret_of(bus, "s3cret")
    assert secret.can_check
    assert secret.version is None
    assert secret.check(b"s3cret") is SecretCheck.MATCH
    for presented in (b"S3cret", b"s3cret ", b"", None):
        assert secret.check(presented) is SecretCheck.MISMATCH


def test_previous_secrets_are_accepted_as_well_as_the_current_one(bus: FakeConnection) -> None:
    watcher = CredentialWatcher("posthog")
    secret = WebhookSecret(bus, watcher, "third", None, previous=["second", "first"])
    for accepted in (b"third", b"second", b"first"):
        assert secret.check(accepted) is SecretCheck.MATCH
    for refused in (None, b"", b"zeroth", b"thir", b"second,first"):
        assert secret.check(refused) is SecretCheck.MISMATCH


def test_a_previous_secret_without_a_current_one_does_not_count(bus: FakeConnection) -> None:
    secret = WebhookSecret(bus, CredentialWatcher("posthog"), None, None, previous=["first"])
    assert secret.check(b"first") is SecretCheck.UNKNOWN
    assert not secret.can_check


def test_the_secret_is_unknown_before_the_first_reply(bus: FakeConnection) -> None:
    secret = secret_of(bus)
    assert not secret.can_check
    assert secret.check(b"any") is SecretCheck.UNKNOWN
    assert secret.check(None) is SecretCheck.UNKNOWN


async def test_a_caller_can_wait_until_the_secret_is_loaded(bus: FakeConnection) -> None:
    await secret_of(bus, "s3cret").wait_until_loaded(within=60)
    secret = secret_of(bus)
    # The secret is not loaded, so this waits until the timeout.
    await secret.wait_until_loaded(within=0)
    waiting = asyncio.create_task(secret.wait_until_loaded(within=60))
    await settle()
    assert not waiting.done()
    await refresh_with(bus, secret, UNREADABLE)
    await waiting


async def test_a_generated_secret_replaces_the_previous_one(bus: FakeConnection) -> None:
    secret = secret_of(bus)
    await refresh_with(bus, secret, minted("one", version=4))
    assert (secret.check(b"one"), secret.version) == (SecretCheck.MATCH, 4)
    await refresh_with(bus, secret, minted("two", version=5))
    assert secret.check(b"one") is SecretCheck.MISMATCH
    assert (secret.check(b"two"), secret.version) == (SecretCheck.MATCH, 5)


async def test_an_empty_secret_does_not_open_the_route(bus: FakeConnection) -> None:
    secret = secret_of(bus)
    await refresh_with(bus, secret, minted(""))
    assert secret.check(None) is SecretCheck.MISMATCH
    digestless = WebhookSecretReply(version=2, state="present")
    await refresh_with(bus, secret, digestless)
    assert {secret.check(presented) for presented in (b"", None)} == {SecretCheck.MISMATCH}


async def test_the_route_is_open_with_a_warning_when_no_secret_exists(bus: FakeConnection) -> None:
    secret = secret_of(bus)
    with capture_logs() as logs:
        await refresh_with(bus, secret, ABSENT)
        await refresh_with(bus, secret, ABSENT)
    assert secret.check(None) is SecretCheck.MATCH
    assert [line["event"].startswith("THE POSTHOG WEBHOOK IS OPEN") for line in logs] == [True]


async def test_a_secret_that_was_deleted_does_not_open_the_route(
    bus: FakeConnection, tmp_path: Path
) -> None:
    cache = tmp_path / "webhook-secret.json"
    secret = secret_of(bus, cache=cache)
    await refresh_with(bus, secret, minted("one", version=4))
    with capture_logs() as logs:
        await refresh_with(bus, secret, WebhookSecretReply(version=5, state="absent"))
    assert {secret.check(presented) for presented in (b"one", None)} == {SecretCheck.UNKNOWN}
    assert (secret.can_check, secret.missing) == (False, True)
    assert "WEBHOOK_OPEN" in logs[0]["event"]
    # Nor is it open for the next process, which never received the secret.
    restarted = secret_of(bus, cache=cache)
    await refresh_with(bus, restarted, WebhookSecretReply(version=5, state="absent"))
    assert restarted.check(None) is SecretCheck.UNKNOWN
    opened = secret_of(bus, cache=cache, may_be_open=True)
    await refresh_with(bus, opened, WebhookSecretReply(version=5, state="absent"))
    assert opened.check(None) is SecretCheck.MATCH
    await refresh_with(bus, opened, minted("two", version=6))
    assert opened.check(None) is SecretCheck.MISMATCH


async def test_a_deleted_secret_whose_digest_alone_is_on_disk_does_not_open_the_route(
    bus: FakeConnection, tmp_path: Path
) -> None:
    cache = tmp_path / "webhook-secret.json"
    # An earlier version, or a backup, left the digest without the marker file.
    cache.write_bytes(msgspec.json.encode(minted("one", version=4)))
    secret = secret_of(bus, cache=cache)
    await refresh_with(bus, secret, WebhookSecretReply(version=5, state="absent"))
    assert secret.check(None) is SecretCheck.UNKNOWN
    assert secret.missing


async def test_a_secret_removed_from_the_environment_does_not_open_the_route(
    bus: FakeConnection, tmp_path: Path
) -> None:
    cache = tmp_path / "spool" / "webhook-secret.json"
    secret_of(bus, "s3cret", cache)
    without = secret_of(bus, cache=cache)
    await refresh_with(bus, without, ABSENT)
    assert without.check(None) is SecretCheck.UNKNOWN
    assert without.missing


async def test_deleting_a_secret_that_cannot_be_decrypted_does_not_open_the_route(
    bus: FakeConnection, tmp_path: Path
) -> None:
    secret = secret_of(bus, cache=tmp_path / "webhook-secret.json")
    await refresh_with(bus, secret, UNREADABLE)
    await refresh_with(bus, secret, WebhookSecretReply(version=2, state="absent"))
    assert secret.check(None) is SecretCheck.UNKNOWN
    assert secret.missing


async def test_the_last_secret_stays_valid_when_the_database_has_lost_it(
    bus: FakeConnection,
) -> None:
    secret = secret_of(bus)
    await refresh_with(bus, secret, minted("one", version=4))
    with capture_logs() as logs:
        for version in (0, 0, 1):
            await refresh_with(bus, secret, WebhookSecretReply(version=version, state="absent"))
    assert secret.check(b"one") is SecretCheck.MATCH
    assert secret.check(None) is SecretCheck.MISMATCH
    assert ["has lost the webhook secret" in line["event"] for line in logs] == [True]
    await refresh_with(bus, secret, minted("two", version=2))
    assert secret.check(b"one") is SecretCheck.MISMATCH
    assert secret.check(b"two") is SecretCheck.MATCH


async def test_a_deployment_without_a_secret_does_not_open_the_route(bus: FakeConnection) -> None:
    secret = secret_of(bus, may_be_open=False)
    await refresh_with(bus, secret, ABSENT)
    assert secret.check(None) is SecretCheck.UNKNOWN


async def test_a_secret_that_cannot_be_decrypted_is_unknown(bus: FakeConnection) -> None:
    secret = secret_of(bus)
    with capture_logs() as logs:
        await refresh_with(bus, secret, UNREADABLE)
    assert not secret.can_check
    assert secret.check(b"any") is SecretCheck.UNKNOWN
    (error,) = logs
    assert error["log_level"] == "error"
    assert "BETTER_AUTH_SECRET_PREVIOUS" in error["event"]


async def test_an_open_route_is_closed_when_credentials_does_not_reply_after_a_change(
    bus: FakeConnection,
) -> None:
    secret = secret_of(bus)
    await refresh_with(bus, secret, ABSENT)
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, UNAVAILABLE)
    await secret.refresh()
    assert secret.check(None) is SecretCheck.UNKNOWN


async def test_a_late_reply_from_before_generating_does_not_open_the_route(
    bus: FakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secret_of(bus)
    requested, may_reply = asyncio.Event(), asyncio.Event()

    async def reply_late(*_: object) -> WebhookSecretReply:
        requested.set()
        await may_reply.wait()
        return ABSENT

    with monkeypatch.context() as patched:
        patched.setattr(bus, "request", reply_late)
        check = asyncio.create_task(secret.check_again(b"any"))
        await requested.wait()
    refresh = asyncio.create_task(refresh_with(bus, secret, minted("one", version=2)))
    await settle()
    may_reply.set()
    await asyncio.gather(check, refresh)
    assert secret.check(b"one") is SecretCheck.MATCH
    assert secret.check(b"any") is SecretCheck.MISMATCH


async def test_a_loaded_secret_stays_valid_while_credentials_does_not_reply(
    bus: FakeConnection,
) -> None:
    secret = secret_of(bus)
    await refresh_with(bus, secret, minted("one"))
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, UNAVAILABLE)
    await secret.refresh()
    assert secret.check(b"one") is SecretCheck.MATCH


async def test_a_secret_that_may_have_changed_is_requested_again_at_once_after_a_failure(
    bus: FakeConnection,
) -> None:
    watcher = CredentialWatcher("posthog")
    secret = WebhookSecret(bus, watcher, None, None)
    await refresh_with(bus, secret, minted("one"))
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, UNAVAILABLE)
    await secret.refresh()
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, minted("two", version=2))
    await settle()
    assert secret.check(b"two") is SecretCheck.MATCH
    revalidating.cancel()
    await asyncio.wait({revalidating})


async def test_the_next_process_loads_the_digest_of_the_secret_from_the_cache(
    bus: FakeConnection, tmp_path: Path
) -> None:
    cache = tmp_path / "webhook-secret.json"
    await refresh_with(bus, secret_of(bus, cache=cache), minted("minted"))
    assert "minted" not in cache.read_text()
    assert cache.stat().st_mode & 0o077 == 0
    restarted = secret_of(bus, cache=cache)
    assert restarted.can_check
    assert restarted.check(b"minted") is SecretCheck.MATCH
    assert restarted.check(b"other") is SecretCheck.MISMATCH


async def test_the_digest_of_a_new_secret_replaces_the_cached_one(
    bus: FakeConnection, tmp_path: Path
) -> None:
    cache = tmp_path / "webhook-secret.json"
    secret = secret_of(bus, cache=cache)
    await refresh_with(bus, secret, minted("first"))
    await refresh_with(bus, secret, minted("second", version=2))
    restarted = secret_of(bus, cache=cache)
    assert restarted.check(b"first") is SecretCheck.MISMATCH
    assert restarted.check(b"second") is SecretCheck.MATCH


def test_the_first_start_without_a_cache_is_not_a_failure(
    bus: FakeConnection, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        secret_of(bus, cache=tmp_path / "webhook-secret.json")
    assert logs == []


@pytest.mark.parametrize("reply", [ABSENT, UNREADABLE])
async def test_the_absence_of_a_secret_is_not_cached_for_the_next_process(
    bus: FakeConnection, tmp_path: Path, reply: WebhookSecretReply
) -> None:
    cache = tmp_path / "webhook-secret.json"
    secret = secret_of(bus, cache=cache)
    await refresh_with(bus, secret, minted("minted"))
    await refresh_with(bus, secret, reply)
    assert not cache.exists()
    assert not secret_of(bus, cache=cache).can_check


@pytest.mark.parametrize("cached", [ABSENT, UNREADABLE, minted("earlier")])
def test_a_configured_secret_takes_precedence_over_the_cache(
    bus: FakeConnection, tmp_path: Path, cached: WebhookSecretReply
) -> None:
    cache = tmp_path / "webhook-secret.json"
    cache.write_bytes(msgspec.json.encode(cached))
    secret = secret_of(bus, "s3cret", cache)
    for presented in (b"earlier", None):
        assert secret.check(presented) is SecretCheck.MISMATCH
    assert secret.version is None
    assert (secret.missing, secret.unreadable) == (False, False)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"state":"odd"}'])
def test_an_unreadable_cache_is_ignored(
    bus: FakeConnection, tmp_path: Path, content: bytes
) -> None:
    cache = tmp_path / "webhook-secret.json"
    cache.write_bytes(content)
    assert not secret_of(bus, cache=cache).can_check


async def test_a_cache_that_cannot_be_written_is_logged_once_and_the_secret_works(
    bus: FakeConnection, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    secret = secret_of(bus, cache=tmp_path / "file" / "webhook-secret.json")
    with capture_logs() as logs:
        for _ in range(3):
            await refresh_with(bus, secret, minted("minted"))
    assert secret.check(b"minted") is SecretCheck.MATCH
    # The warning is logged once, not with every refresh.
    warnings = [line["event"] for line in logs].count("the webhook secret cannot be cached")
    assert warnings == 1


async def test_the_digest_is_synced_before_it_replaces_the_previous_one(
    bus: FakeConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "webhook-secret.json"
    synced: list[tuple[int, int]] = []

    def record(descriptor: int) -> None:
        file = os.fstat(descriptor)
        synced.append((file.st_ino, file.st_size))

    monkeypatch.setattr(os, "fsync", record)
    secret = secret_of(bus, cache=cache)
    await refresh_with(bus, secret, minted("minted"))
    complete = (cache.stat().st_ino, cache.stat().st_size)
    assert synced == [complete]
    # The same reply, every 30 s, is not written again.
    await refresh_with(bus, secret, minted("minted"))
    assert synced == [complete]
    cache.unlink()
    await refresh_with(bus, secret, minted("minted"))
    assert secret_of(bus, cache=cache).can_check


async def test_a_stored_digest_is_not_written_again(
    bus: FakeConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secret_of(bus, cache=tmp_path / "webhook-secret.json")
    await refresh_with(bus, secret, minted("minted"))

    def read_only(_file: Path, **_named: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", read_only)
    with capture_logs() as logs:
        await refresh_with(bus, secret, minted("minted"))
    assert [line for line in logs if line["log_level"] == "warning"] == []


async def test_a_full_disk_keeps_the_cached_digest_and_leaves_no_partial_file(
    bus: FakeConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "webhook-secret.json"
    secret = secret_of(bus, cache=cache)
    await refresh_with(bus, secret, minted("before"))
    files = names_in(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    await refresh_with(bus, secret, minted("minted", version=2))
    assert names_in(tmp_path) == files
    assert secret_of(bus, cache=cache).check(b"before") is SecretCheck.MATCH


async def test_the_previous_generated_secret_is_accepted_until_it_expires(
    bus: FakeConnection,
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    secret = WebhookSecret(bus, CredentialWatcher("posthog"), None, None, now=lambda: now)
    before = sha256(b"first").hexdigest()
    # PostHog may not have the new secret yet.
    both = msgspec.structs.replace(minted("second", 2), previous_sha256=before)
    await refresh_with(bus, secret, both)
    for accepted in (b"first", b"second"):
        assert secret.check(accepted) is SecretCheck.MATCH
    assert secret.check(b"") is SecretCheck.MISMATCH
    until = now + timedelta(days=1)
    await refresh_with(bus, secret, msgspec.structs.replace(both, version=3, previous_until=until))
    assert secret.check(b"first") is SecretCheck.MATCH
    now = until
    assert secret.check(b"first") is SecretCheck.MISMATCH
    assert secret.check(b"second") is SecretCheck.MATCH


async def test_an_unknown_secret_is_requested_at_most_once_a_second(
    bus: FakeConnection,
) -> None:
    now = 10.0
    secret = WebhookSecret(bus, CredentialWatcher("posthog"), None, None, clock=lambda: now)
    await refresh_with(bus, secret, minted("first"))
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, minted("second", 2))
    # This gateway was not notified of the change.
    assert secret.check(b"second") is SecretCheck.MISMATCH
    requests = len(bus.sent)
    for nothing in (None, b""):
        assert await secret.check_again(nothing) is SecretCheck.MISMATCH
    assert len(bus.sent) == requests
    assert await secret.check_again(b"second") is SecretCheck.MATCH
    requests = len(bus.sent)
    for _ in range(3):
        assert await secret.check_again(b"wrong") is SecretCheck.MISMATCH
    assert len(bus.sent) == requests
    now += 1
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, UNAVAILABLE)
    assert await secret.check_again(b"wrong") is SecretCheck.MISMATCH
    assert secret.check(b"second") is SecretCheck.MATCH
    assert await secret_of(bus, "env-secret").check_again(b"wrong") is SecretCheck.MISMATCH


async def test_the_secret_is_requested_again_after_a_reconnect(
    bus: FakeConnection, tmp_path: Path
) -> None:
    parts = build_parts(bus, GatewaySettings(spool_dir=tmp_path), PostHogSettings())
    create_app(ServiceBroker(User.GATEWAY, bus), Mock(Server), parts)
    await refresh_with(bus, parts.webhook_secret, minted("old"))
    bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, minted("new", version=2))
    await bus._on_reconnect()
    await eventually(lambda: parts.webhook_secret.check(b"new") is SecretCheck.MATCH)
