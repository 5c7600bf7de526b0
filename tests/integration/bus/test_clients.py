"""The recipes of docs/bus.md for other NATS clients run with the variables of `subscriber.env`."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from dotenv import dotenv_values

from cli.stack import nats
from hogsend.contract.persons import ANALYTICS_PERSON, GetPerson, Person
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.service.router import ServiceRouter
from tests.integration.harness import connected, consumer_api, serving
from tests.node_tools import needs_node_tools
from tests.servers import Servers, _password

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "docs" / "examples" / "clients"
NATS_COMMANDS = RECIPES / "nats.console"
NODE_MODULES = ROOT / "tests" / "nats_js" / "node_modules"
OUTPUT = [
    "stream: EVENTS",
    "durable: u_1",
    "unnamed: hogsend.events.signed_up",
    "ordered: hogsend.events.signed_up",
    "credential: posthog",
]


persons = ServiceRouter()


@persons.endpoint(ANALYTICS_PERSON)
async def person(request: GetPerson) -> Person:
    return Person({"plan": "pro", "of": request.distinct_id})


@pytest.fixture
async def bus(servers: Servers, fresh_bus: None) -> AsyncIterator[None]:
    """Publish two events and two versions of a credential."""
    async with (
        consumer_api(servers),
        connected(servers, User.INGEST) as ingest,
        connected(servers, User.CREDENTIALS) as credentials,
    ):
        await streams.reconcile(credentials.js, User.CREDENTIALS)
        for version in (1, 2):
            body = msgspec.json.encode({"provider": "posthog", "version": version})
            await credentials.publish("hogsend.credentials.posthog.changed", body, {})
            body = msgspec.json.encode({"userId": f"u_{version}"})
            await ingest.publish("hogsend.events.signed_up", body, {})
        yield


def subscriber_env(servers: Servers, user: User) -> dict[str, str]:
    """Return the variables of the user's environment file, such as `subscriber.env`."""
    text = nats.env_file_lines(user, _password(user), f"127.0.0.1:{servers.nats_port}")
    variables = {name: str(value) for name, value in dotenv_values(stream=StringIO(text)).items()}
    return {"PATH": os.environ["PATH"], **variables}


async def output_of(*command: str, environment: dict[str, str], directory: Path) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()


@pytest.mark.parametrize("user", [User.SUBSCRIBER, User.APP])
async def test_the_recipe_for_nats_py_prints_the_expected_messages(
    servers: Servers, bus: None, tmp_path: Path, user: User
) -> None:
    recipe = str(RECIPES / "nats_py.py")
    environment = subscriber_env(servers, user)
    assert (
        await output_of(sys.executable, recipe, environment=environment, directory=tmp_path)
        == OUTPUT
    )


@needs_node_tools(NODE_MODULES.parent)
async def test_the_recipe_for_nats_js_prints_the_expected_messages_and_leaves_its_durable(
    servers: Servers, bus: None, tmp_path: Path
) -> None:
    shutil.copy(RECIPES / "nats_js.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    environment = subscriber_env(servers, User.SUBSCRIBER)
    lines = await output_of("node", "nats_js.mjs", environment=environment, directory=tmp_path)
    assert lines == OUTPUT
    async with connected(servers, User.OPERATOR) as operator:
        remaining = await operator.js.consumers_info(StreamName.EVENTS)
    assert "mailer-js" in [info.name for info in remaining]


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
async def test_the_recipe_for_nats_go_prints_events_and_the_credential(
    servers: Servers, bus: None, tmp_path: Path
) -> None:
    program = await build_recipe(tmp_path)
    environment = subscriber_env(servers, User.SUBSCRIBER)
    # The program reads until it is killed.
    process = await asyncio.create_subprocess_exec(
        program, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        lines = [await asyncio.wait_for(process.stdout.readline(), 60) for _ in range(3)]
    finally:
        process.kill()
        await process.wait()
    parsed = [line.decode().partition(": ") for line in lines]
    messages = sorted(((kind, msgspec.json.decode(body)) for kind, _, body in parsed), key=str)
    assert messages == [
        ("credential", {"provider": "posthog", "version": 2}),
        ("event", {"userId": "u_1"}),
        ("event", {"userId": "u_2"}),
    ]


@pytest.mark.skipif(shutil.which("nats") is None, reason="the nats command is not installed")
async def test_the_commands_for_nats_show_events_the_credential_a_person_and_streams(
    servers: Servers, bus: None, tmp_path: Path
) -> None:
    (tmp_path / ".hogsend").mkdir()
    for user in (User.SUBSCRIBER, User.APP, User.OPERATOR):
        text = nats.env_file_lines(user, _password(user), f"127.0.0.1:{servers.nats_port}")
        (tmp_path / ".hogsend" / f"{user}.env").write_text(text)
    lines = [line.removeprefix("$ ") for line in NATS_COMMANDS.read_text().splitlines()]
    # Two events are in the stream, and the command for them would wait for ten.
    script = "\n".join(lines).replace("--count 10", "--count 2").replace("--all", "--all --count 2")
    script = script.replace("--last-per-subject", "--last-per-subject --count 1")
    # A context that the developer selected would change the commands.
    environment = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(tmp_path)}
    async with (
        serving(servers, User.ANALYTICS, persons),
        connected(servers, User.ANALYTICS) as analytics,
    ):
        await streams.reconcile(analytics.js, User.ANALYTICS)
        shown = await output_of("bash", "-euc", script, environment=environment, directory=tmp_path)
        stored = await analytics.js.get_last_msg(StreamName.PERSONS, "hogsend.persons.set")
    text = "\n".join(shown)
    assert shown.count("Acknowledged message") == 2
    assert shown.count('{"userId":"u_1"}') == shown.count('{"userId":"u_2"}') == 2
    assert '{"provider":"posthog","version":2}' in shown
    assert '{"properties":{"plan":"pro","of":"u_1"}}' in shown
    assert stored.data == b'{"distinctId":"u_1","set":{"plan":"pro"}}'
    assert "Stream Report" in text
    assert "Consumer report for EVENTS" in text
    assert "mailer" in text.partition("Consumer report for EVENTS")[2]
    assert "hogsend-analytics" in text


async def build_recipe(directory: Path) -> Path:
    """Build the recipe in Go; skip the test where nats.go cannot be downloaded."""
    shutil.copy(RECIPES / "nats_go.go", directory / "main.go")
    (directory / "go.mod").write_text("module recipe\n\ngo 1.25\n")
    for arguments in (("build", "-o", "recipe"), ("mod", "tidy"), ("build", "-o", "recipe")):
        process = await asyncio.create_subprocess_exec(
            "go", *arguments, cwd=directory, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
        if process.returncode == 0 and arguments[0] == "build":
            return directory / "recipe"
    pytest.skip(f"go cannot get nats.go: {err.decode().strip()[-200:]}")
