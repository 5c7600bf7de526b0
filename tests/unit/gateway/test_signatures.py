"""Signatures of deliveries (Standard Webhooks)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_SIGNING_SECRET, SigningSecretReply
from hogsend.contract.errors import Unavailable
from hogsend.posthog.signing import KEY_ID_HEADER, key_id
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.base import Settings
from hogsend.service.settings.shared import PostHogSettings
from services.gateway.response_headers import RETRY_AFTER
from services.gateway.settings import GatewaySettings
from services.gateway.signatures import TOLERANCE_SECONDS
from services.gateway.signing_keys import SigningKeys
from services.gateway.webhooks.refusals import REFUSED
from tests.unit.gateway.fakes import SECRET, FakeConnection, FakeGateway, fake_gateway
from tests.virtual_time import settle
from tests.waiting import eventually

URL = "/v1/webhooks/posthog"
KEY = base64.b64encode(b"k" * 32).decode()
EARLIER = "whsec_" + base64.b64encode(b"e" * 24).decode()
OTHER = base64.b64encode(b"o" * 32).decode()
ABSENT = SigningSecretReply(version=1, state="absent")
BODY = json.dumps({"event": {"uuid": "1", "event": "e", "distinct_id": "\u00fc"}}).encode()


def signed(key: str = KEY, body: bytes = BODY, *, age: float = 0) -> dict[str, str]:
    """Return headers as PostHog creates them: the signed text is the body as sent."""
    at = str(int(time.time() - age))
    raw = base64.b64decode(key.removeprefix("whsec_"))
    digest = hmac.new(raw, b"msg_1." + at.encode() + b"." + body, hashlib.sha256).digest()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def minted(secret: str, **fields: Any) -> SigningSecretReply:
    return SigningSecretReply(version=1, state="present", secret=secret, **fields)


def altered(changes: dict[str, str], key: str = KEY) -> dict[str, str]:
    """Return signed headers with `changes`. An empty value removes its header."""
    return {name: value for name, value in {**signed(key), **changes}.items() if value}


async def post(gateway: FakeGateway, headers: dict[str, str]) -> Any:
    return await gateway.http.post(
        URL, content=BODY, headers={"x-posthog-webhook-secret": SECRET, **headers}
    )


@pytest.fixture(scope="session", params=["verify", "required"])
async def verifying(request: pytest.FixtureRequest) -> AsyncIterator[FakeGateway]:
    """A gateway with a signing key, shared by the tests of wrong signatures."""
    async with fake_gateway(
        posthog={"posthog_signing_secret": KEY}, webhook_signatures=request.param
    ) as gateway:
        yield gateway


@pytest.mark.parametrize("key", [KEY, EARLIER])
async def test_a_signature_of_the_current_or_a_previous_key_is_accepted(key: str) -> None:
    async with fake_gateway(
        posthog={"posthog_signing_secret": KEY},
        posthog_signing_secret_previous=EARLIER,
        webhook_signatures="required",
    ) as gateway:
        assert (await post(gateway, signed(key))).status_code == 200
        several = signed(OTHER)["webhook-signature"] + " " + signed(key)["webhook-signature"]
        headers = altered({"webhook-signature": f"v1a,x {several}"}, key)
        assert (await post(gateway, headers)).status_code == 200


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: signed(OTHER), "wrong"),
        (lambda: signed(body=BODY + b" "), "wrong"),
        (lambda: signed(age=TOLERANCE_SECONDS + 60), "expired"),
        (lambda: signed(age=-TOLERANCE_SECONDS - 60), "expired"),
        *[
            (partial(altered, {name: value}), "wrong")
            for name, value in (
                ("webhook-id", "msg_2"),
                ("webhook-id", ""),
                ("webhook-timestamp", ""),
                ("webhook-timestamp", "1e9"),
                ("webhook-timestamp", "nan"),
                ("webhook-timestamp", "-1"),
                *[
                    ("webhook-signature", text)
                    for text in (
                        "",
                        "v1",
                        "v1,",
                        "v1,a,b",
                        "v1,abc",
                        "v2,A",
                        ",",
                        "\xfc",
                        "v1,\xfc",
                    )
                ],
            )
        ],
    ],
)
async def test_a_wrong_or_expired_signature_is_401_and_counted(
    verifying: FakeGateway, make: Callable[[], dict[str, str]], reason: str
) -> None:
    # Signed now: minutes may pass between collection and this test.
    headers = make()
    counter = REFUSED.labels(f"signature_{reason}")._value
    before = counter.get()
    raw = [(name, value.encode("latin-1")) for name, value in headers.items()]
    response = await post(verifying, dict(raw))  # type: ignore[arg-type]
    assert (response.status_code, verifying.bus.published.ids) == (401, [])
    assert counter.get() == before + 1


@pytest.mark.parametrize("mode", ["verify", "required"])
@pytest.mark.parametrize(
    ("key", "age", "reason"), [(OTHER, 0, "wrong"), (KEY, TOLERANCE_SECONDS + 60, "expired")]
)
async def test_the_log_contains_the_reason_of_a_wrong_signature_and_no_key(
    mode: str, key: str, age: float, reason: str
) -> None:
    async with fake_gateway(
        posthog={"posthog_signing_secret": KEY}, webhook_signatures=mode
    ) as gateway:
        with capture_logs() as logs:
            await post(gateway, signed(key, age=age))
    assert [line["reason"] for line in logs if "reason" in line] == [f"signature_{reason}"]
    assert KEY not in str(logs)


async def test_an_unsigned_webhook_is_refused_only_when_signatures_are_required() -> None:
    async with fake_gateway(posthog={"posthog_signing_secret": KEY}) as gateway:
        assert (await post(gateway, {})).status_code == 200
    async with fake_gateway(
        posthog={"posthog_signing_secret": KEY}, webhook_signatures="required"
    ) as gateway:
        response = await post(gateway, {})
        assert response.status_code == 401
        assert "must be signed" in response.json()["error"]


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_a_webhook_with_one_header_of_a_signature_does_not_count_as_unsigned(
    verifying: FakeGateway, name: str
) -> None:
    response = await post(verifying, {name: signed()[name]})
    assert (response.status_code, response.json()["error"]) == (401, "Invalid webhook signature")


async def test_a_signature_does_not_replace_the_secret() -> None:
    async with fake_gateway(posthog={"posthog_signing_secret": KEY}) as gateway:
        response = await gateway.http.post(URL, content=BODY, headers=signed())
        assert response.status_code == 401


@pytest.mark.parametrize("signing", [None, ABSENT, Unavailable("down")])
async def test_a_gateway_without_a_signing_key_treats_a_signed_webhook_as_unsigned(
    signing: Any,
) -> None:
    async with fake_gateway(signing=signing) as gateway:
        assert (await post(gateway, signed(OTHER))).status_code == 200
    async with fake_gateway(signing=signing, webhook_signatures="required") as gateway:
        counter = REFUSED.labels("unknown")._value
        before = counter.get()
        response = await post(gateway, signed(OTHER))
        assert (response.status_code, response.headers["retry-after"]) == (
            503,
            RETRY_AFTER["Retry-After"],
        )
        assert counter.get() == before + 1
        assert (await post(gateway, {})).status_code == 401


async def test_the_generated_key_and_the_configured_key_both_verify() -> None:
    async with fake_gateway(
        signing=minted(OTHER),
        posthog={"posthog_signing_secret": KEY},
        webhook_signatures="required",
    ) as gateway:
        assert [(await post(gateway, signed(key))).status_code for key in (KEY, OTHER)] == [200] * 2
        assert (await post(gateway, signed(EARLIER))).status_code == 401


async def test_the_previous_generated_key_is_accepted_until_it_expires() -> None:
    now = datetime.now(UTC)
    for remaining, status in ((60, 200), (-1, 401)):
        keys = minted(KEY, previous=OTHER, previous_until=now + timedelta(seconds=remaining))
        async with fake_gateway(signing=keys) as gateway:
            assert (await post(gateway, signed(OTHER))).status_code == status
            assert (await post(gateway, signed(KEY))).status_code == 200


async def test_an_unknown_key_is_requested_before_the_delivery_is_refused() -> None:
    names_other = {**signed(OTHER), KEY_ID_HEADER: key_id(OTHER)}
    async with fake_gateway(signing=minted(KEY)) as gateway:
        gateway.bus.reply_with(CREDENTIALS_SIGNING_SECRET, minted(OTHER, previous=KEY))
        assert (await post(gateway, names_other)).status_code == 200
        requests = len(gateway.bus.sent)
        tampered = {**names_other, "webhook-id": "msg_2"}
        assert (await post(gateway, tampered)).status_code == 401
        assert len(gateway.bus.sent) == requests
        # The credentials service does not have this key either.
        unknown = {**signed(EARLIER), KEY_ID_HEADER: key_id(EARLIER)}
        assert (await post(gateway, unknown)).status_code == 401


@pytest.mark.parametrize(("required", "status"), [("verify", 200), ("required", 503)])
async def test_a_signature_counts_as_none_while_its_key_cannot_be_requested(
    required: str, status: int
) -> None:
    unknown = {**signed(OTHER), KEY_ID_HEADER: key_id(OTHER)}
    async with fake_gateway(signing=minted(KEY), webhook_signatures=required) as gateway:
        # A credentials service of 0.1.0, which has no signing keys, or one that does not run.
        gateway.bus.reply_with(CREDENTIALS_SIGNING_SECRET, Unavailable("it is not running"))
        assert (await post(gateway, unknown)).status_code == status
        # A wrong signature with a known key is refused as always.
        tampered = {**signed(KEY), "webhook-id": "msg_2", KEY_ID_HEADER: key_id(KEY)}
        assert (await post(gateway, tampered)).status_code == 401


async def test_signing_keys_are_renewed_when_the_credential_changes() -> None:
    async with fake_gateway(signing=minted(KEY)) as gateway:
        gateway.bus.reply_with(CREDENTIALS_SIGNING_SECRET, minted(OTHER))
        gateway.watcher.changed(None)

        async def is_accepted() -> bool:
            return (await post(gateway, signed(OTHER))).status_code == 200

        await eventually(is_accepted)
        assert (await post(gateway, signed(KEY))).status_code == 401


@pytest.mark.parametrize(
    ("later", "in_force"),
    [
        # Disconnected: the version increased.
        (SigningSecretReply(version=2, state="absent"), []),
        # The database was restored from a backup with an earlier key.
        (SigningSecretReply(version=0, state="present", secret=OTHER), [key_id(OTHER)]),
    ],
)
async def test_a_signing_key_that_was_deleted_or_replaced_is_no_longer_in_force(
    later: SigningSecretReply, in_force: list[str]
) -> None:
    bus = FakeConnection()
    keys = SigningKeys(bus, CredentialWatcher("posthog"))
    for reply in (minted(KEY), later):
        bus.reply_with(CREDENTIALS_SIGNING_SECRET, reply)
        await keys.renew()
    assert list(keys.in_force()) == in_force


async def test_signing_keys_that_cannot_be_decrypted_are_logged_once() -> None:
    bus = FakeConnection()
    keys = SigningKeys(bus, CredentialWatcher("posthog"))
    bus.reply_with(CREDENTIALS_SIGNING_SECRET, SigningSecretReply(version=1, state="unreadable"))
    with capture_logs() as logs:
        await keys.renew()
        await keys.renew()
    (error,) = logs
    assert error["log_level"] == "error"
    assert "BETTER_AUTH_SECRET_PREVIOUS" in error["event"]


async def test_signing_keys_that_may_have_changed_are_requested_again_at_once_after_a_failure() -> (
    None
):
    bus, watcher = FakeConnection(), CredentialWatcher("posthog")
    keys = SigningKeys(bus, watcher)
    bus.reply_with(CREDENTIALS_SIGNING_SECRET, minted(KEY))
    await keys.renew()
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    bus.reply_with(CREDENTIALS_SIGNING_SECRET, Unavailable("it is not running"))
    await keys.renew()
    assert list(keys.in_force()) == [key_id(KEY)]
    bus.reply_with(CREDENTIALS_SIGNING_SECRET, minted(OTHER))
    await settle()
    assert list(keys.in_force()) == [key_id(OTHER)]
    revalidating.cancel()
    await asyncio.wait({revalidating})


async def test_signing_keys_are_those_of_the_last_renewal_when_an_earlier_reply_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = FakeConnection()
    keys = SigningKeys(bus, CredentialWatcher("posthog"))
    requested, may_reply = asyncio.Event(), asyncio.Event()

    async def reply_late(*_: object) -> SigningSecretReply:
        requested.set()
        await may_reply.wait()
        return minted(KEY)

    with monkeypatch.context() as patched:
        patched.setattr(bus, "request", reply_late)
        early = asyncio.create_task(keys.refresh())
        await requested.wait()
    bus.reply_with(CREDENTIALS_SIGNING_SECRET, minted(OTHER))
    renewal = asyncio.create_task(keys.renew())
    await settle()
    may_reply.set()
    await asyncio.gather(early, renewal)
    assert list(keys.in_force()) == [key_id(OTHER)]


async def test_a_caller_can_wait_until_the_signing_keys_are_loaded() -> None:
    bus = FakeConnection()
    await SigningKeys(bus, CredentialWatcher("posthog"), [KEY]).wait_until_loaded(within=60)
    keys = SigningKeys(bus, CredentialWatcher("posthog"))
    # The keys are not loaded, so this waits until the timeout.
    await keys.wait_until_loaded(within=0)
    waiting = asyncio.create_task(keys.wait_until_loaded(within=60))
    await settle()
    assert not waiting.done()
    bus.reply_with(CREDENTIALS_SIGNING_SECRET, ABSENT)
    await keys.renew()
    await waiting


@pytest.mark.parametrize(
    "later",
    [
        SigningSecretReply(version=2, state="unreadable"),
        SigningSecretReply(version=0, state="absent"),
    ],
)
async def test_signing_keys_stay_valid_when_the_database_has_lost_them(
    later: SigningSecretReply,
) -> None:
    async with fake_gateway(signing=minted(KEY), webhook_signatures="required") as gateway:
        gateway.bus.reply_with(CREDENTIALS_SIGNING_SECRET, later)
        unknown = {**signed(OTHER), KEY_ID_HEADER: key_id(OTHER)}
        assert (await post(gateway, unknown)).status_code == 401
        assert (await post(gateway, signed(KEY))).status_code == 200


@pytest.mark.parametrize(
    ("group", "settings"),
    [
        (PostHogSettings, {"posthog_signing_secret": "short"}),
        (PostHogSettings, {"posthog_signing_secret": "not base64 " * 5}),
        (GatewaySettings, {"posthog_signing_secret_previous": f"{OTHER},x"}),
    ],
)
def test_an_invalid_signing_key_is_refused_at_startup_and_not_quoted(
    group: type[Settings], settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="base64 of at least 24 bytes") as raised:
        group(**settings)
    assert not any(value in str(raised.value) for value in settings.values())
