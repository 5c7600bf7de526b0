"""The stored record of the provisioned project (contract 1.2, step 7)."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import CannotUnseal, GrantReplaced, HogsendError, Unavailable
from hogsend.posthog.api import Project
from services.provisioner.destination import project_record
from tests.unit.provisioner.fakes import POSTHOG_URL, FakeCredentials

PROJECT = Project(id="4242", api_token="phc_grabbed")
RECORD: dict[str, Any] = {
    "project_api_key": "phc_grabbed",
    "project_id": "4242",
    "private_host": POSTHOG_URL,
}


@pytest.fixture
def credentials() -> FakeCredentials:
    return FakeCredentials()


async def test_case_40_key_id_and_host_are_stored(credentials: FakeCredentials) -> None:
    await project_record.save(credentials, PROJECT, POSTHOG_URL)
    assert credentials.stored == [DerivedPayload(**RECORD)]


async def test_a_generated_secret_is_kept(credentials: FakeCredentials) -> None:
    credentials.store_payload(
        webhook_secret="kept", project_id="1", private_host="https://old.example"
    )
    await project_record.save(credentials, PROJECT, POSTHOG_URL)
    assert credentials.stored == [DerivedPayload(webhook_secret="kept", **RECORD)]


async def test_an_unchanged_record_is_not_written_again(credentials: FakeCredentials) -> None:
    for _ in range(2):
        await project_record.save(credentials, PROJECT, POSTHOG_URL)
    assert len(credentials.stored) == 1


async def test_case_53_a_project_without_a_key_is_not_stored(credentials: FakeCredentials) -> None:
    await project_record.save(credentials, Project(id="4242", api_token=None), POSTHOG_URL)
    assert credentials.stored == []


async def test_an_unreadable_row_is_not_overwritten(credentials: FakeCredentials) -> None:
    credentials.store_unreadable()
    await project_record.save(credentials, PROJECT, POSTHOG_URL)
    assert credentials.stored == []


@pytest.mark.parametrize("method", ["derived", "store_derived"])
@pytest.mark.parametrize("error", [Unavailable("down"), CannotUnseal("no")])
async def test_a_record_that_cannot_be_stored_raises_no_error(
    credentials: FakeCredentials, method: str, error: HogsendError
) -> None:
    credentials.failures[method] = error
    await project_record.save(credentials, PROJECT, POSTHOG_URL)
    assert credentials.stored == []


async def test_a_record_of_a_grant_that_was_replaced_ends_the_run(
    credentials: FakeCredentials,
) -> None:
    credentials.failures["store_derived"] = GrantReplaced("another grant was connected meanwhile")
    with pytest.raises(GrantReplaced):
        await project_record.save(credentials, PROJECT, POSTHOG_URL)
