"""Webhooks at a steady rate to a deployment, and where they are in the end.

python -m tests.engine.load send LEDGER [--rate 50] [--to http://127.0.0.1:3002] [--to ...:3003]
python -m tests.engine.load verify LEDGER      compares with PostgreSQL and with the stream EVENTS

`send` runs until SIGTERM or SIGINT. It does as a proxy in front of two gateways does: what one does
not take is given to the other, and counts as refused only when neither takes it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec

from cli.deployment import servers
from cli.deployment.compose import Compose
from hogsend.contract.events import Event

ANSWER_SECONDS = 6.0
"""As long as PostHog waits."""
PATIENCE = 300


class Load:
    """What is sent, and what was answered."""

    def __init__(self, ledger: Path, gateways: Sequence[str], rate: float) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._pause = 1 / rate
        self._answers: Counter[str] = Counter()
        self._refused: list[float] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until told to stop, and print what happened."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with self._ledger.open("a") as file:
            async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as http:
                while not stop.is_set():
                    task = asyncio.create_task(self._send(http, file))
                    self._sending.add(task)
                    task.add_done_callback(self._sending.discard)
                    await asyncio.sleep(self._pause)
                while self._sending:
                    await asyncio.wait(self._sending)
        accepted, refused = self._answers["accepted"], self._answers["refused"]
        span = max(self._refused) - min(self._refused) if self._refused else 0.0
        answers = ", ".join(f"{count} {what}" for what, count in self._answers.items())
        _say(f"accepted {accepted}, refused {refused} within {span:.1f} s ({answers})")

    async def _send(self, http: httpx.AsyncClient, file: object) -> None:
        id = str(uuid.uuid4())
        body = {
            "event": {"event": "signed_up", "distinct_id": f"u_{id[:2]}", "uuid": id},
            "person": {"properties": {"email": f"u_{id[:2]}@example.com"}},
        }
        for gateway in self._gateways:
            try:
                answer = await http.post(f"{gateway}/v1/webhooks/posthog", json=body)
            except httpx.HTTPError as error:
                self._answers[type(error).__name__] += 1
                continue
            if answer.is_success:
                self._answers["accepted"] += 1
                print(id, file=file, flush=True)  # type: ignore[call-overload]
                return
            self._answers[str(answer.status_code)] += 1
        self._answers["refused"] += 1
        self._refused.append(time.monotonic())


async def verify(accepted: set[str], compose: Compose) -> int:
    """Wait until everything accepted is stored and announced; say what is not."""
    stored: set[str] = set()
    for _ in range(PATIENCE):
        rows = compose.run(
            *("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "hogsend", "-At"),
            *("-c", "SELECT id FROM ingest.events"),
        )
        stored = set(rows.split())
        if accepted <= stored:
            break
        await asyncio.sleep(0.2)
    announced = await _announced(compose)
    lost, silent = accepted - stored, accepted - announced
    _say(
        f"accepted {len(accepted)}, stored {len(accepted & stored)}, announced "
        f"{len(accepted & announced)}; lost {len(lost)}, never announced {len(silent)}"
    )
    return 1 if lost or silent else 0


async def _announced(compose: Compose) -> set[str]:
    found: set[str] = set()
    async with servers.operator(compose) as client:
        js = client.jetstream()
        state = (await js.stream_info("EVENTS")).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await js.get_msg("EVENTS", sequence)
            found.add(msgspec.json.decode(message.data or b"", type=Event).id)
    return found


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["send", "verify"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--to", action="append")
    parser.add_argument("--directory", type=Path, default=Path())
    chosen = parser.parse_args()
    if chosen.what == "send":
        gateways = chosen.to or ["http://127.0.0.1:3002"]
        asyncio.run(Load(chosen.ledger, gateways, chosen.rate).run())
        return 0
    return asyncio.run(verify(set(chosen.ledger.read_text().split()), Compose(chosen.directory)))


if __name__ == "__main__":
    sys.exit(main())
