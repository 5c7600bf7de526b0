"""The sandbox of the local stack, and the credential of an earlier sandbox."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli.errors import CommandError
from cli.stack.data_directory import DataDirectory
from cli.stack.local_sandbox import LocalSandbox, SandboxCredential
from cli.stack.stack import Stack
from tests.cli.recording_server import CannedResponse, Fake, RecordedRequest


class FakeStore(Fake):
    """A gateway with or without a stored credential."""

    has_credential = True

    def respond(self, request: RecordedRequest) -> CannedResponse:
        was_stored = self.has_credential
        if request.method == "DELETE":
            self.has_credential = False
        return CannedResponse(200 if was_stored else 404, {})


@pytest.fixture
def store() -> Iterator[FakeStore]:
    fake = FakeStore()
    with fake.running():
        yield fake


@pytest.fixture
def credential(store: FakeStore, tmp_path: Path) -> SandboxCredential:
    home = DataDirectory(tmp_path / "home")
    stack: Any = SimpleNamespace(home=home, base_url=store.url, admin_key="k")
    return SandboxCredential(cast("Stack", stack))


async def test_a_credential_that_the_sandbox_did_not_grant_is_not_deleted(
    credential: SandboxCredential, store: FakeStore
) -> None:
    with pytest.raises(CommandError, match="a real PostHog") as refused:
        await credential.forget(sandbox=True)
    assert "HOGSEND_HOME" in refused.value.fix
    await credential.forget(sandbox=False)
    assert store.has_credential
    assert {request.method for request in store.requests} == {"GET"}


async def test_a_credential_of_an_earlier_sandbox_is_deleted_once(
    credential: SandboxCredential, store: FakeStore
) -> None:
    store.has_credential = False
    assert not await credential.forget(sandbox=True)
    for sandbox in (True, False):
        store.has_credential = True
        assert await credential.forget(sandbox=sandbox)
        assert not store.has_credential
    # The sandbox's mark is gone, so a later credential is one of a real PostHog.
    store.has_credential = True
    assert not await credential.forget(sandbox=False)
    assert store.has_credential


def test_the_sandbox_replaces_the_settings_of_another_posthog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("POSTHOG_PRIVATE_HOST", "POSTHOG_PROJECT_ID", "POSTHOG_PERSONAL_API_KEY"):
        monkeypatch.setenv(name, "of another PostHog")
    monkeypatch.setenv("POSTHOG_HOST", "https://eu.i.posthog.com")
    monkeypatch.setenv("POSTHOG_WEBHOOK_SECRET", "the stack's own")
    for name in ("POSTHOG_API_KEY", "API_PUBLIC_URL", "ENABLE_POSTHOG_DESTINATION"):
        monkeypatch.setenv(name, "")
    LocalSandbox(8010, 3002).use()
    settings = {name: value for name, value in os.environ.items() if name.startswith("POSTHOG_")}
    assert settings == {
        "POSTHOG_HOST": "http://127.0.0.1:8010",
        "POSTHOG_API_KEY": "phc_sandbox_project_key",
        "POSTHOG_WEBHOOK_SECRET": "the stack's own",
    }
    assert os.environ["API_PUBLIC_URL"] == "http://hogsend.test:3002"


def test_the_restart_note_of_the_sandbox_asks_to_connect_again(tmp_path: Path) -> None:
    program = LocalSandbox(8010, 3002).program("", tmp_path)
    assert "`hogsend connect posthog`" in program.restart_note
