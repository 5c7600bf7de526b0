"""`hogsend demo` runs its whole scenario, and writes no secret outside its `secrets` directory."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.exit_codes import ExitCode
from tests.ports import real_ports
from tests.running_stack import PYTHONPATH, clean_environment

PATIENCE_SECONDS = 100.0

# Another test run may occupy the demo's ports for a while.
pytestmark = pytest.mark.timeout(3 * PATIENCE_SECONDS)

TOKENS = re.compile(rb"ph[ar]_[A-Za-z0-9_-]{12,}")
"""PostHog's access and refresh tokens."""
MINTED = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""A generated webhook secret, or its digest."""
CONFIG_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
"""nats-server logs the digest of its configuration when it starts."""
VERIFIER = re.compile(rb"code_verifier|refresh_token=|[?&]code=")


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
async def summary(home: Path) -> dict[str, Any]:
    """Run the demo at debug level, without a terminal, until it exits; return its JSON output."""
    with real_ports():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "demo", "--json"),
            env={
                **clean_environment(),
                "PYTHONPATH": PYTHONPATH,
                "HOGSEND_HOME": str(home),
                "LOG_LEVEL": "debug",
                # The demo uses its own stand-in for PostHog, whatever these settings say.
                "POSTHOG_HOST": "http://127.0.0.1:9",
                "POSTHOG_PERSONAL_API_KEY": "phx_of_the_operator",
                "HTTP_PROXY": "http://127.0.0.1:9",
            },
            cwd=home,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 0, errors.decode()
    summary: dict[str, Any] = json.loads(output)
    (home / "output").write_bytes(output + errors)
    return summary


async def test_the_demo_connects_posthog_and_its_event_arrives_everywhere(
    summary: dict[str, Any],
) -> None:
    assert summary["verdict"] == "connected"
    assert summary["hogFunctionId"]
    assert set(summary["arrivalMs"]) == {"captured", "gateway", "nats", "postgres"}
    assert all(took > 0 for took in summary["arrivalMs"].values())


async def test_the_demos_service_reads_the_person_and_posthog_captures_its_engagement(
    summary: dict[str, Any],
) -> None:
    assert set(summary["returnMs"]) == {"engagement", "person"}
    assert all(took > 0 for took in summary["returnMs"].values())


async def test_a_refreshed_credential_reaches_every_consumer(summary: dict[str, Any]) -> None:
    assert set(summary["refresh"]["consumers"]) == {
        "this terminal",
        "gateway",
        "provisioner",
        "analytics",
    }
    assert summary["refresh"]["version"] > 0


def test_the_demo_leaves_no_secret_in_its_files_and_output(
    summary: dict[str, Any], home: Path
) -> None:
    secrets = [file.read_bytes().strip() for file in (home / "demo" / "secrets").iterdir()]
    assert secrets
    files_read = 0
    for file in home.rglob("*"):
        if not file.is_file() or "secrets" in file.parts:
            continue
        content = file.read_bytes()
        files_read += 1
        # This includes the files of streams, of the spool and of PostgreSQL.
        assert not TOKENS.search(content), file
        assert b"phx_of_the_operator" not in content, file
        if file.suffix == ".log" or file.name == "output":
            assert not MINTED.search(CONFIG_DIGEST.sub(b"", content)), file
            assert not VERIFIER.search(content), file
            assert not [secret for secret in secrets if secret in content], file
    assert files_read > 100


async def test_ctrl_c_before_the_demo_is_done_is_reported_as_an_interruption(
    tmp_path: Path,
) -> None:
    with real_ports():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "demo", "--json"),
            env={**clean_environment(), "PYTHONPATH": PYTHONPATH, "HOGSEND_HOME": str(tmp_path)},
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        assert b"starting NATS" in await asyncio.wait_for(process.stderr.readline(), 60)
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == ExitCode.INTERRUPTED
    assert json.loads(output) == {"error": "interrupted", "fix": "run it again"}
