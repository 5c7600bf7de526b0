"""Clients generated from the OpenAPI document send requests to a running gateway and decode the
responses.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.node_tools import needs_node_tools
from tests.running_stack import ROOT, Up, up

ADMIN_KEY, INGEST_KEY = "k-admin", "k-ingest"
TOOLS = ROOT / "tests" / "openapi"
TSC = (
    *("--strict", "--skipLibCheck", "--target", "es2022"),
    *("--module", "nodenext", "--lib", "es2022,dom"),
)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    home = tmp_path_factory.mktemp("generated")
    keys = {"ADMIN_API_KEY": ADMIN_KEY, "INGEST_API_KEY": INGEST_KEY}
    async with up(home / "home", home, **keys, ADMIN_FAILED_KEY_LIMIT="1000") as running:
        yield running


async def run(*command: str | Path, cwd: Path, **variables: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def fetch_document(stack: Up, directory: Path) -> Path:
    """Save the document that the gateway serves."""
    document = directory / "openapi.json"
    document.write_bytes((await stack.http.get("/docs/openapi.json")).content)
    return document


async def test_a_generated_python_client_decodes_every_response(stack: Up, tmp_path: Path) -> None:
    document = await fetch_document(stack, tmp_path)
    # By default the generator formats its files, which takes most of its time.
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    await run(
        Path(sys.executable).with_name("openapi-python-client"),
        *("generate", "--fail-on-warning", "--meta", "none", "--path", document),
        *("--output-path", tmp_path / "gateway_client", "--config", tmp_path / "config.yaml"),
        cwd=tmp_path,
    )
    modules = [
        f"gateway_client.api.{file.parent.name}.{file.stem}"
        for file in (tmp_path / "gateway_client" / "api").glob("*/*.py")
        if file.stem != "__init__"
    ]
    paths = json.loads(document.read_text())["paths"].values()
    assert len(modules) == sum(len(operations) for operations in paths)
    imports = "; ".join(f"import {module}" for module in modules)
    await run(sys.executable, "-c", imports, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    arguments = (stack.summary["gateway"], ADMIN_KEY, INGEST_KEY)
    await run(
        sys.executable, TOOLS / "check.py", *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path)
    )


@needs_node_tools(TOOLS)
async def test_a_generated_typescript_client_compiles_and_decodes_every_response(
    stack: Up, tmp_path: Path
) -> None:
    document = await fetch_document(stack, tmp_path)
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    for file in ("check.ts", "package.json"):
        shutil.copy(TOOLS / file, tmp_path)
    tools = TOOLS / "node_modules" / ".bin"
    await run(tools / "openapi-typescript", document, "-o", "gateway.d.ts", cwd=tmp_path)
    await run(tools / "tsc", *TSC, "check.ts", cwd=tmp_path)
    arguments = (stack.summary["gateway"], ADMIN_KEY, INGEST_KEY)
    await run("node", "check.js", *arguments, cwd=tmp_path)
