"""Webhooks at a steady rate to a deployment, and where they are in the end.

python -m tests.engine.load send LEDGER [--rate 50] [--to http://127.0.0.1:3002] [--to ...:3003]
python -m tests.engine.load capture LEDGER     the same through the sandbox, which delivers them
python -m tests.engine.load verify LEDGER      compares with PostgreSQL and with the stream EVENTS

`send` runs until SIGTERM or SIGINT. It does as a proxy in front of two gateways does: what one does
not take is given to the other, and counts as refused only when neither takes it. With `--key FILE`
every second event is reported to `POST /v1/events`. With `--none-refused` it fails when one was
refused. `capture` fails when a delivery was answered 401 or 403: whatever changes meanwhile,
PostHog has to be believed.
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
from sandbox.options import Options

ANSWER_SECONDS = 6.0
"""As long as PostHog waits."""
PATIENCE = 300


class Load:
    """What is sent, and what was answered."""

    def __init__(
        self,
        ledger: Path,
        gateways: Sequence[str],
        rate: float,
        *,
        key: str | None = None,
        secret: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._key = key
        self._secret = secret
        self._turn = False
        self._pause = 1 / rate
        self._answers: Counter[str] = Counter()
        self._refused: list[float] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Send until told to stop, and print what happened; gives how many were refused."""
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
        return refused

    async def _send(self, http: httpx.AsyncClient, file: object) -> None:
        id = str(uuid.uuid4())
        body: dict[str, object] = {
            "event": {"event": "signed_up", "distinct_id": f"u_{id[:2]}", "uuid": id},
            "person": {"properties": {"email": f"u_{id[:2]}@example.com"}},
        }
        self._turn = not self._turn
        reported = self._turn and self._key is not None
        path = "/v1/events" if reported else "/v1/webhooks/posthog"
        headers = {"x-posthog-webhook-secret": self._secret} if self._secret else {}
        if reported:
            headers = {"Authorization": f"Bearer {self._key}"}
            body = {"event": "signed_up", "userId": f"u_{id[:2]}", "idempotencyKey": id}
        for gateway in self._gateways:
            try:
                answer = await self._post(http, f"{gateway}{path}", body, headers)
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

    async def _post(
        self, http: httpx.AsyncClient, url: str, body: object, headers: dict[str, str]
    ) -> httpx.Response:
        try:
            return await http.post(url, json=body, headers=headers)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # As PostHog: a connection that was kept open may have been closed.
            self._answers["broken"] += 1
            return await http.post(url, json=body, headers=headers)


class Attempt(msgspec.Struct, frozen=True):
    """One request of the sandbox's."""

    status: int | None


class Delivery(msgspec.Struct, frozen=True):
    """One event on its way from the sandbox."""

    event_uuid: str
    outcome: str
    attempts: list[Attempt]


class State(msgspec.Struct, frozen=True):
    """What the sandbox says of itself."""

    deliveries: list[Delivery]


async def capture(ledger: Path, posthog: str, rate: float) -> int:
    """Capture events in the sandbox until told to stop; write down those that it delivered."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    captured: set[str] = set()
    async with httpx.AsyncClient(base_url=posthog, timeout=ANSWER_SECONDS) as http:
        while not stop.is_set():
            id = str(uuid.uuid4())
            body = {
                "api_key": Options().project_key,
                "event": "signed_up",
                "distinct_id": f"u_{id[:2]}",
                "uuid": id,
                "properties": {"$is_identified": True},
            }
            (await http.post("/i/v0/e/", json=body)).raise_for_status()
            captured.add(id)
            await asyncio.sleep(1 / rate)
        for _ in range(PATIENCE):
            state = msgspec.json.decode((await http.get("/_sandbox/state")).content, type=State)
            own = [one for one in state.deliveries if one.event_uuid in captured]
            if not any(one.outcome in {"pending", "retrying"} for one in own):
                break
            await asyncio.sleep(0.2)
    delivered = {one.event_uuid for one in own if one.outcome == "delivered"}
    with ledger.open("a") as file:
        file.writelines(f"{id}\n" for id in sorted(delivered))
    statuses = Counter(str(attempt.status) for one in own for attempt in one.attempts)
    answers = ", ".join(f"{count} {what}" for what, count in statuses.items())
    outcomes = Counter(one.outcome for one in own)
    _say(f"captured {len(captured)}, delivered {len(delivered)} ({dict(outcomes)}; {answers})")
    return 1 if any(str(status) in {"401", "403"} for status in statuses) else 0


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
    parser.add_argument("what", choices=["send", "capture", "verify"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--to", action="append")
    parser.add_argument("--none-refused", action="store_true")
    parser.add_argument("--key", type=Path, help="file with a key for POST /v1/events")
    parser.add_argument("--secret", help="what PostHog sends with each webhook")
    parser.add_argument("--posthog", default="http://127.0.0.1:8010")
    parser.add_argument("--directory", type=Path, default=Path())
    chosen = parser.parse_args()
    if chosen.what == "send":
        gateways = chosen.to or ["http://127.0.0.1:3002"]
        key = chosen.key.read_text().strip() if chosen.key else None
        loaded = Load(chosen.ledger, gateways, chosen.rate, key=key, secret=chosen.secret)
        refused = asyncio.run(loaded.run())
        return 1 if refused and chosen.none_refused else 0
    if chosen.what == "capture":
        return asyncio.run(capture(chosen.ledger, chosen.posthog, chosen.rate))
    return asyncio.run(verify(set(chosen.ledger.read_text().split()), Compose(chosen.directory)))


if __name__ == "__main__":
    sys.exit(main())
