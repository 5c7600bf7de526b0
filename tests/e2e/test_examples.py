"""Everything the README and the documents show as a transcript or a program runs as shown."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
OTHERS = {"docs/sandbox.md", "docs/backfill.md"}
"""Pages whose transcripts need a PostHog: here below, and in `test_up_sandbox`."""
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

    def here(self, shown: str) -> str:
        """What a document shows, with the ports of this run."""
        return shown.replace("http://127.0.0.1:3002", self.stack.summary["gateway"])

    async def start(self, example: str, env_file: str) -> asyncio.subprocess.Process:
        """Start an example program as a NATS user."""
        given = dotenv_values(self.directory / ".hogsend" / env_file)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / example)),
            env={**self.variables, "NATS_URL": str(given["NATS_URL"])},
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
            "HOGSEND_API_URL": stack.summary["gateway"],
        }
        yield Checkout(directory, stack, variables)


@pytest.mark.parametrize("page", sorted(PAGES.keys() - OTHERS))
async def test_the_transcripts_of_a_page_run_as_shown(checkout: Checkout, page: str) -> None:
    if page == "docs/deadletters.md":
        await _report_what_nobody_understands(checkout)
    for example in PAGES[page]:
        if example.endswith(".console"):
            transcript = (ROOT / example).read_text()
            await play(checkout.here(transcript), checkout.directory, checkout.variables)


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
    said, _ = await asyncio.wait_for(running.communicate(), 60)
    assert (running.returncode, said) == (0, b"['signed_up'] []\n")


async def test_the_app_runs_as_shown(checkout: Checkout) -> None:
    app = await checkout.start("app.py", "app.env")
    said, _ = await asyncio.wait_for(app.communicate(), 60)
    # Nothing is configured here, so that nothing is known, and nothing fails.
    assert app.returncode == 0
    assert said.startswith(b"None default ")


async def test_the_subscriber_hears_of_a_credential_change(checkout: Checkout) -> None:
    subscriber = await checkout.start("subscriber.py", "subscriber.env")
    assert subscriber.stdout is not None
    url = "/v1/admin/provider-credentials/posthog"
    stored = await checkout.stack.http.put(
        url, json={"payload": GRANT}, headers=checkout.stack.admin
    )
    said = ""
    async with asyncio.timeout(60):
        while "posthog stored" not in said:
            said = (await subscriber.stdout.readline()).decode()
    subscriber.kill()
    await subscriber.wait()
    assert stored.status_code == 200
    assert said.endswith("['person:read']\n")


async def test_the_calls_of_the_reference_run_as_shown(checkout: Checkout) -> None:
    program = await checkout.start("from_hogsend.py", "app.env")
    said, _ = await asyncio.wait_for(program.communicate(), 60)
    # Nothing is configured here: every call is the silent no-op of the reference.
    assert program.returncode == 0
    assert said.decode().splitlines() == [
        "no project key",
        "{} None",
        "Monday 09:00 Europe/Berlin default",
        "[False]",
    ]


async def test_typed_events_are_read_as_shown(checkout: Checkout) -> None:
    billing = await checkout.start("typed_events.py", "subscriber.env")
    assert billing.stdout is not None
    for properties in ({"plan": "pro", "seats": 3}, {"plan": "pro", "seats": "many"}):
        happened = {"event": "plan_changed", "distinct_id": "u_7", "properties": properties}
        sent = await checkout.stack.http.post("/v1/webhooks/posthog", json={"event": happened})
        assert sent.status_code == 200
    async with asyncio.timeout(60):
        said = [(await billing.stdout.readline()).decode() for _ in range(2)]
    billing.kill()
    await billing.wait()
    assert said[0] == "u_7 pro 3\n"
    assert "properties.seats" in said[1]


async def test_a_subscriber_that_is_told_to_stop_ends_behind_its_event(checkout: Checkout) -> None:
    mailer = await checkout.start("shutdown.py", "subscriber.env")
    assert mailer.stdout is not None
    happened = {"event": "signed_up", "distinct_id": "u_8"}
    sent = await checkout.stack.http.post("/v1/webhooks/posthog", json={"event": happened})
    assert sent.status_code == 200
    async with asyncio.timeout(60):
        # The durable begins with what other programs here were sent.
        while (await mailer.stdout.readline()).decode() != "u_8\n":
            pass
        mailer.terminate()
        said, _ = await mailer.communicate()
    assert mailer.returncode == 0
    assert said.decode().splitlines()[-1] == "stopped"


async def test_the_users_earlier_name_still_connects(checkout: Checkout) -> None:
    note, url, *_ = (checkout.directory / ".hogsend" / "member.env").read_text().splitlines()
    async with hogsend.connect(url.partition("=")[2]) as client:
        assert await client.persons.get("u_42") == {}
    assert note == "# Deprecated: use app.env"


async def _report_what_nobody_understands(checkout: Checkout) -> None:
    """Engagement of a type there is not: it becomes the first dead letter."""
    client = await nats.connect(checkout.stack.app_url, inbox_prefix="_INBOX_app")
    await client.jetstream(timeout=PATIENCE_SECONDS).publish(
        "hogsend.engagement.email.burnt", b'{"data":{"userId":"u"}}'
    )
    await client.close()
