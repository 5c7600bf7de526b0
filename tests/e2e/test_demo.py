"""`hogsend demo`: the whole loop, once around, and nothing secret left lying about."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ports import real_ports
from tests.running_stack import PYTHONPATH, clean_environment

PATIENCE_SECONDS = 100.0

# Another run may have the ports.
pytestmark = pytest.mark.timeout(3 * PATIENCE_SECONDS)

TOKENS = re.compile(rb"ph[ar]_[A-Za-z0-9_-]{12,}")
"""PostHog's access and refresh tokens."""
MINTED = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""What a minted webhook secret looks like, and so does its digest."""
CONFIG_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
"""nats-server names its configuration by digest when it starts."""
VERIFIER = re.compile(rb"code_verifier|refresh_token=|[?&]code=")


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
async def told(home: Path) -> dict[str, Any]:
    """Run it at debug level, without a terminal; it ends by itself."""
    with real_ports():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "demo", "--json"),
            env={
                **clean_environment(),
                "PYTHONPATH": PYTHONPATH,
                "HOGSEND_HOME": str(home),
                "LOG_LEVEL": "debug",
                # None of these may be used: the demo is about nothing but itself.
                "POSTHOG_HOST": "http://127.0.0.1:9",
                "POSTHOG_PERSONAL_API_KEY": "phx_of_the_operator",
                "HTTP_PROXY": "http://127.0.0.1:9",
            },
            cwd=home,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complained = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 0, complained.decode()
    told: dict[str, Any] = json.loads(said)
    (home / "said").write_bytes(said + complained)
    return told


async def test_it_connects_and_the_event_arrives_everywhere(told: dict[str, Any]) -> None:
    assert told["verdict"] == "connected"
    assert told["hogFunctionId"]
    assert set(told["arrivalMs"]) == {"captured", "gateway", "nats", "postgres"}
    assert all(took > 0 for took in told["arrivalMs"].values())


async def test_a_service_reads_the_person_and_posthog_hears_of_engagement(
    told: dict[str, Any],
) -> None:
    assert set(told["returnMs"]) == {"engagement", "person"}
    assert all(took > 0 for took in told["returnMs"].values())


async def test_a_refresh_reaches_every_consumer(told: dict[str, Any]) -> None:
    assert set(told["refresh"]["consumers"]) == {
        "this terminal",
        "gateway",
        "provisioner",
        "analytics",
    }
    assert told["refresh"]["version"] > 0


def test_nothing_secret_is_left_anywhere(told: dict[str, Any], home: Path) -> None:
    own = [file.read_bytes().strip() for file in (home / "demo" / "secrets").iterdir()]
    assert own
    swept = 0
    for file in home.rglob("*"):
        if not file.is_file() or "secrets" in file.parts:
            continue
        content = file.read_bytes()
        swept += 1
        # Streams, the spool and PostgreSQL's files included.
        assert not TOKENS.search(content), file
        assert b"phx_of_the_operator" not in content, file
        if file.suffix == ".log" or file.name == "said":
            assert not MINTED.search(CONFIG_DIGEST.sub(b"", content)), file
            assert not VERIFIER.search(content), file
            assert not [secret for secret in own if secret in content], file
    assert swept > 100
