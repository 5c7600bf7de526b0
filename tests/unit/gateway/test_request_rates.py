"""The rate limit of admin requests: within any minute, independent of the system clock."""

from __future__ import annotations

import time

import pytest

from services.gateway.admin_keys import AdminKeys, Scope
from services.gateway.request_rates import RequestRates
from services.gateway.settings import GatewaySettings


def test_the_limit_applies_to_every_window_of_a_minute() -> None:
    now = [100.0]
    rates = RequestRates(2, clock=lambda: now[0])
    assert rates.count("a")
    now[0] += 40
    assert rates.count("a")
    assert not rates.count("a")
    assert (rates.remaining("a"), rates.remaining("b")) == (0, 2)
    # A refused request is not counted: only the second accepted one is within the minute.
    now[0] += 20
    assert rates.count("a")
    assert not rates.count("a")


def test_setting_the_system_clock_does_not_reset_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = AdminKeys(GatewaySettings(admin_api_key="k" * 32, admin_rate_limit=2))
    remaining = [keys.count_request(Scope.FULL_ADMIN)[1] for _ in range(2)]
    in_an_hour = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: in_an_hour)
    assert [*remaining, keys.count_request(Scope.FULL_ADMIN)[1]] == [1, 0, -1]
