"""Every transcript and program in the README and the documents runs as shown."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from dotenv import dotenv_values

import hogsend
from docs.generators import examples
from tests.ports import free_port
from tests.running_stack import ROOT, Up, clean_environment, up
from tests.transcripts import play
from tests.waiting import PATIENCE_SECONDS

EXAMPLES = ROOT / "docs" / "examples"
PAGES = {
    str(page.relative_to(ROOT)): examples.shown_in(page.read_text()) for page in examples.pages()
}
PAGES_WITH_POSTHOG = {"docs/sandbox.md", "docs/backfill.md"}
"""Pages whose transcripts need PostHog; they run below and in `test_up_sandbox`."""
GRANT: dict[str, Any] = {
    "accessToken": "pha_a",
    "refreshToken": "phr_r",
    "expiresAt": "2099-01-01T00:00:00Z",
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read"],
}


@dataclass(frozen=True)
class Checkout:
    """A directory that looks like a checkout after `make install`, with `make up` running."""

    directory: Path
    stack: Up
    variables: Mapping[str, str]

    def with_gateway_address(self, transcript: str) -> str:
        """Replace the gateway's address in a transcript by that of the running stack."""
        return transcript.replace("http://127.0.0.1:3002", self.stack.summary["gateway"])

    async def start(self, example: str, env_file: str) -> asyncio.subprocess.Process:
        """Start an example program as a NATS user."""
        variables = dotenv_values(self.directory / ".hogsend" / env_file)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / example)),
            env={**self.variables, "NATS_URL": str(variables["NATS_URL"])},
            cwd=self.directory,
            stdout=asyncio.subprocess.PIPE,
        )


@pytest.fixture(scope="module")
async def checkout(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Checkout]:
    directory = tmp_path_factory.mktemp("checkout")
    programs = Path(sys.executable).parent
    (directory / ".venv").symlink_to(sys.prefix)
    (directory / "docs").symlink_to(ROOT / "docs")
    home = directory / ".hogsend"
    async with up(home, directory) as stack:
        variables = {
            **clean_environment(),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "shared"))),
            "PYTHONUNBUFFERED": "1",
            "GATEWAY_PORT": str(urlsplit(stack.summary["gateway"]).port),
        }
        yield Checkout(directory, stack, variables)


@pytest.mark.parametrize("page", sorted(PAGES.keys() - PAGES_WITH_POSTHOG))
async def test_the_transcripts_of_a_page_run_as_shown(checkout: Checkout, page: str) -> None:
    if page == "docs/deadletters.md":
        await _report_an_unknown_engagement_type(checkout)
    for example in PAGES[page]:
        if example.endswith(".console"):
            transcript = (ROOT / example).read_text()
            await play(
                checkout.with_gateway_address(transcript), checkout.directory, checkout.variables
            )


async def test_the_sandbox_starts_as_shown(checkout: Checkout) -> None:
    port = str(free_port())
    transcript = (EXAMPLES / "sandbox.console").read_text()
    shown = transcript.replace("8010", port).replace("sandbox --", f"sandbox --port {port} --")
    await play(shown, checkout.directory, checkout.variables)


async def test_the_stand_in_for_tests_runs_as_shown(checkout: Checkout, tmp_path: Path) -> None:
    program = tmp_path / "stand_in.py"
    shown = (EXAMPLES / "posthog_stand_in.py").read_text()
    program.write_text(shown.replace("8011", str(free_port())))
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program)), env=checkout.variables, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(running.communicate(), 60)
    assert (running.returncode, output) == (0, b"['signed_up'] []\n")


async def test_the_example_app_runs_as_shown(checkout: Checkout) -> None:
    app = await checkout.start("app.py", "app.env")
    output, _ = await asyncio.wait_for(app.communicate(), 60)
    # Without PostHog the person's properties are empty and no call fails.
    assert app.returncode == 0
    assert output.startswith(b"None default ")


async def test_the_example_subscriber_receives_a_credential_change(checkout: Checkout) -> None:
    subscriber = await checkout.start("subscriber.py", "subscriber.env")
    assert subscriber.stdout is not None
    url = "/v1/admin/provider-credentials/posthog"
    stored = await checkout.stack.http.put(
        url, json={"payload": GRANT}, headers=checkout.stack.admin
    )
    line = ""
    async with asyncio.timeout(60):
        while "posthog stored" not in line:
            line = (await subscriber.stdout.readline()).decode()
    subscriber.kill()
    await subscriber.wait()
    assert stored.status_code == 200
    assert line.endswith("['person:read']\n")


async def test_the_calls_that_replace_typescript_functions_run_as_shown(checkout: Checkout) -> None:
    program = await checkout.start("from_hogsend.py", "app.env")
    output, _ = await asyncio.wait_for(program.communicate(), 60)
    # Without PostHog every call does nothing and raises no error.
    assert program.returncode == 0
    assert output.decode().splitlines() == [
        "no project key",
        "{} None",
        "Monday 09:00 Europe/Berlin default",
        "[False]",
    ]


async def test_typed_events_are_read_as_shown(checkout: Checkout) -> None:
    billing = await checkout.start("typed_events.py", "subscriber.env")
    assert billing.stdout is not None
    for properties in ({"plan": "pro", "seats": 3}, {"plan": "pro", "seats": "many"}):
        event = {"event": "plan_changed", "distinct_id": "u_7", "properties": properties}
        sent = await checkout.stack.http.post("/v1/webhooks/posthog", json={"event": event})
        assert sent.status_code == 200
    async with asyncio.timeout(60):
        lines = [(await billing.stdout.readline()).decode() for _ in range(2)]
    billing.kill()
    await billing.wait()
    assert lines[0] == "u_7 pro 3\n"
    assert "properties.seats" in lines[1]


async def test_a_subscriber_finishes_its_event_and_exits_on_sigterm(checkout: Checkout) -> None:
    mailer = await checkout.start("shutdown.py", "subscriber.env")
    assert mailer.stdout is not None
    event = {"event": "signed_up", "distinct_id": "u_8"}
    sent = await checkout.stack.http.post("/v1/webhooks/posthog", json={"event": event})
    assert sent.status_code == 200
    async with asyncio.timeout(60):
        # The durable first receives the events of the tests before this one.
        while (await mailer.stdout.readline()).decode() != "u_8\n":
            pass
        mailer.terminate()
        output, _ = await mailer.communicate()
    assert mailer.returncode == 0
    assert output.decode().splitlines()[-1] == "stopped"


async def test_a_service_can_still_connect_as_the_deprecated_user_member(
    checkout: Checkout,
) -> None:
    note, url, *_ = (checkout.directory / ".hogsend" / "member.env").read_text().splitlines()
    async with hogsend.connect(url.partition("=")[2]) as client:
        assert await client.persons.get("u_42") == {}
    assert note == "# Deprecated: use app.env"


async def _report_an_unknown_engagement_type(checkout: Checkout) -> None:
    """Publish engagement of an unknown type, which becomes the first dead letter."""
    client = await nats.connect(checkout.stack.app_url, inbox_prefix="_INBOX_app")
    await client.jetstream(timeout=PATIENCE_SECONDS).publish(
        "hogsend.engagement.email.burnt", b'{"data":{"userId":"u"}}'
    )
    await client.close()
