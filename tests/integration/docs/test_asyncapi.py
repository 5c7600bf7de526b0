"""AsyncAPI's own parser takes the document, and types generated from it compile."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from faststream.specification import AsyncAPI

from hogsend import Event
from hogsend.contract import subjects
from hogsend.faststream import HogsendBroker
from tests.node_tools import needs_node_tools

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / "tests" / "asyncapi"
DOCUMENT = ROOT / "docs" / "asyncapi.json"

pytestmark = needs_node_tools(TOOLS)


def test_the_official_parser_takes_the_document_and_its_types_compile(tmp_path: Path) -> None:
    types = tmp_path / "types.ts"
    models = _run("node", TOOLS / "check.mjs", DOCUMENT, types).split()
    compiler = TOOLS / "node_modules" / ".bin" / "tsc"
    _run(compiler, "--noEmit", "--strict", "--target", "es2022", types)
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    # The generator has another name for what is a word of TypeScript's own, as `Event` is.
    named = {model.removeprefix("Reserved") for model in models}
    assert {name for name, schema in schemas.items() if "properties" in schema} <= named


def test_the_official_parser_takes_what_faststream_makes_of_an_app(tmp_path: Path) -> None:
    broker = HogsendBroker("nats://127.0.0.1:4222")
    names = ["order placed", "a.b", "größe", "100%", "~", "a/b", "a:b", "$pageview", "x" * 300]

    @broker.events(names, durable="mailer")
    async def mail(event: Event) -> None: ...

    @broker.events("order placed", durable="billing")
    async def bill(event: Event) -> None: ...

    document = AsyncAPI(broker).to_specification().to_json()
    (tmp_path / "app.json").write_text(document)
    _run("node", TOOLS / "check.mjs", tmp_path / "app.json", tmp_path / "types.ts")
    channels = json.loads(document)["channels"].values()
    assert len(channels) == len(names) + 1
    assert {channel["address"] for channel in channels} == {subjects.event(name) for name in names}


def test_the_official_parser_refuses_a_channel_that_is_missing(tmp_path: Path) -> None:
    broken = json.loads(DOCUMENT.read_text())
    broken["channels"].popitem()
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    ran = subprocess.run(
        ["node", TOOLS / "check.mjs", tmp_path / "broken.json", tmp_path / "types.ts"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, "channel" in ran.stderr) == (1, True)


def _run(*command: str | Path) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
