"""The gateway against its OpenAPI document: schemathesis generates valid and invalid requests."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.running_stack import ROOT, up

HOOKS = ROOT / "tests" / "openapi" / "generated_requests.py"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "ignored_auth",
)
"""Checks of schemathesis that hold for the gateway.

Two others do not: the gateway may refuse a request that its schema allows (an event without a
user), and by contract it responds 404 to an unknown method, not 405.
"""


async def test_every_response_is_documented_and_invalid_requests_are_refused(
    tmp_path: Path,
) -> None:
    key = "k-admin"
    async with up(
        tmp_path / "home", tmp_path, ADMIN_API_KEY=key, ADMIN_FAILED_KEY_LIMIT="1000000"
    ) as stack:
        run = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{stack.summary['gateway']}/docs/openapi.json"),
            *("-H", f"Authorization: Bearer {key}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "20"),
            # Random examples would fail CI for faults that the commit has not introduced.
            "--generation-deterministic",
            *("--checks", ",".join(CHECKS), "--no-color"),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HOOKS.parent), "SCHEMATHESIS_HOOKS": HOOKS.stem},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert run.stdout is not None
        output = (await run.stdout.read()).decode()
        assert await run.wait() == 0, output
        assert await stack.is_healthy()
    assert "Tested: 0" not in output
