"""Signatures of deliveries (Standard Webhooks)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.gateway.settings import GatewaySettings
from services.gateway.signatures import TOLERANCE_SECONDS
from services.gateway.webhooks.refusals import REFUSED
from tests.unit.gateway.fakes import SECRET, FakeGateway, fake_gateway

URL = "/v1/webhooks/posthog"
KEY = base64.b64encode(b"k" * 32).decode()
EARLIER = "whsec_" + base64.b64encode(b"e" * 24).decode()
OTHER = base64.b64encode(b"o" * 32).decode()
BODY = json.dumps({"event": {"uuid": "1", "event": "e", "distinct_id": "\u00fc"}}).encode()


def signed(key: str = KEY, body: bytes = BODY, *, age: float = 0) -> dict[str, str]:
    """Headers as PostHog makes them: the text that is signed is what is sent."""
    at = str(int(time.time() - age))
    raw = base64.b64decode(key.removeprefix("whsec_"))
    digest = hmac.new(raw, b"msg_1." + at.encode() + b"." + body, hashlib.sha256).digest()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def altered(changes: dict[str, str], key: str = KEY) -> dict[str, str]:
    """Headers of which some are others, or missing."""
    return {name: value for name, value in {**signed(key), **changes}.items() if value}


async def post(gateway: FakeGateway, headers: dict[str, str]) -> Any:
    return await gateway.http.post(
        URL, content=BODY, headers={"x-posthog-webhook-secret": SECRET, **headers}
    )


@pytest.mark.parametrize("key", [KEY, EARLIER])
async def test_what_a_key_in_force_signed_is_accepted(key: str) -> None:
    async with fake_gateway(
        posthog_signing_secret=KEY,
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
@pytest.mark.parametrize("mode", ["verify", "required"])
async def test_a_signature_that_is_not_right_is_refused(
    mode: str, make: Callable[[], dict[str, str]], reason: str
) -> None:
    # Made now: when tests are collected, minutes may pass until they run.
    headers = make()
    counter = REFUSED.labels(f"signature_{reason}")._value
    before = counter.get()
    async with fake_gateway(posthog_signing_secret=KEY, webhook_signatures=mode) as gateway:
        with capture_logs() as logs:
            raw = [(name, value.encode("latin-1")) for name, value in headers.items()]
            answer = await post(gateway, dict(raw))  # type: ignore[arg-type]
        assert (answer.status_code, gateway.bus.published.ids) == (401, [])
    assert counter.get() == before + 1
    assert [line["reason"] for line in logs if "reason" in line] == [f"signature_{reason}"]
    assert KEY not in str(logs)


async def test_without_a_signature_it_depends_on_the_setting() -> None:
    async with fake_gateway(posthog_signing_secret=KEY) as gateway:
        assert (await post(gateway, {})).status_code == 200
    async with fake_gateway(posthog_signing_secret=KEY, webhook_signatures="required") as gateway:
        answer = await post(gateway, {})
        assert answer.status_code == 401
        assert "must be signed" in answer.json()["error"]


async def test_a_signature_does_not_replace_the_secret() -> None:
    async with fake_gateway(posthog_signing_secret=KEY) as gateway:
        answer = await gateway.http.post(URL, content=BODY, headers=signed())
        assert answer.status_code == 401


async def test_without_a_key_signatures_are_not_looked_at() -> None:
    async with fake_gateway() as gateway:
        assert (await post(gateway, signed(OTHER))).status_code == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"webhook_signatures": "required"}, "needs POSTHOG_SIGNING_SECRET"),
        ({"posthog_signing_secret": "short"}, "base64 of at least 24 bytes"),
        ({"posthog_signing_secret": "not base64 " * 5}, "base64 of at least 24 bytes"),
        (
            {"posthog_signing_secret": KEY, "posthog_signing_secret_previous": f"{OTHER},x"},
            "base64 of at least 24 bytes",
        ),
    ],
)
def test_a_gateway_that_could_not_verify_does_not_start(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        GatewaySettings(**settings)
