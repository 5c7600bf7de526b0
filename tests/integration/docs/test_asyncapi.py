"""The official AsyncAPI parser accepts the document, and types generated from it compile."""

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


def test_the_official_parser_accepts_the_document_and_its_types_compile(tmp_path: Path) -> None:
    types = tmp_path / "types.ts"
    models = _run("node", TOOLS / "check.mjs", DOCUMENT, types).split()
    compiler = TOOLS / "node_modules" / ".bin" / "tsc"
    _run(compiler, "--noEmit", "--strict", "--target", "es2022", types)
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    # The generator adds `Reserved` to names that TypeScript defines itself, such as `Event`.
    names = {model.removeprefix("Reserved") for model in models}
    assert {name for name, schema in schemas.items() if "properties" in schema} <= names


def test_the_official_parser_accepts_the_document_that_faststream_generates_for_an_app(
    tmp_path: Path,
) -> None:
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


def test_the_official_parser_refuses_a_document_with_a_missing_channel(tmp_path: Path) -> None:
    broken = json.loads(DOCUMENT.read_text())
    broken["channels"].popitem()
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    process = subprocess.run(
        ["node", TOOLS / "check.mjs", tmp_path / "broken.json", tmp_path / "types.ts"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, "channel" in process.stderr) == (1, True)


def _run(*command: str | Path) -> str:
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout
