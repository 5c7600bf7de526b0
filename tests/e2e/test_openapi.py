"""The gateway against its own OpenAPI document: schemathesis makes up good and bad requests."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.running_stack import up

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
"""Not that every request its schema allows is accepted: an event may belong to nobody. And not 405
for other methods: the contract answers 404."""


async def test_every_answer_is_documented_and_no_nonsense_is_accepted(tmp_path: Path) -> None:
    key = "k-admin"
    async with up(
        tmp_path / "home", tmp_path, ADMIN_API_KEY=key, ADMIN_FAILED_KEY_LIMIT="1000000"
    ) as stack:
        run = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{stack.summary['gateway']}/docs/openapi.json"),
            *("-H", f"Authorization: Bearer {key}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "20"),
            # CI must not fail on what another commit would have failed on as well.
            "--generation-deterministic",
            *("--checks", ",".join(CHECKS), "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert run.stdout is not None
        said = (await run.stdout.read()).decode()
        assert await run.wait() == 0, said
        assert await stack.is_healthy()
    assert "Tested: 0" not in said
