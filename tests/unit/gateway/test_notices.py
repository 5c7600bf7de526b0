"""Settings of the operator's webhook, and the description of its notices in OpenAPI (ADR 23)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hogsend.service.ssrf import EgressPolicy
from services.gateway.notices.notice import Notice, raised
from services.gateway.notices.openapi import WEBHOOKS
from services.gateway.settings import GatewaySettings
from tests.unit.gateway.notices import AT, PROBLEM, SECRET


def test_an_operator_webhook_url_requires_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR_WEBHOOK_URL", "http://127.0.0.1:1/x")
    with pytest.raises(ValueError, match="needs OPERATOR_WEBHOOK_SECRET"):
        GatewaySettings()
    monkeypatch.setenv("OPERATOR_WEBHOOK_SECRET", SECRET)
    assert GatewaySettings().operator_webhook_url == "http://127.0.0.1:1/x"


def test_a_private_operator_webhook_url_is_allowed_by_the_egress_policy() -> None:
    assert EgressPolicy.of((), "http://ops.internal:8080/x").names("http://ops.internal:8080")


def test_openapi_describes_the_notices_that_are_sent() -> None:
    operation = WEBHOOKS["operatorNotice"].post
    assert operation is not None
    content: Any = operation.request_body
    media = content.content["application/json"]
    sent = msgspec.to_builtins(raised("spool.in_use", "host", PROBLEM, AT))
    assert media.schema.properties.keys() == sent.keys()
    assert media.schema.properties["data"].properties.keys() == sent["data"].keys()
    assert msgspec.convert(media.examples["raised"].value, Notice).data.state == "raised"
