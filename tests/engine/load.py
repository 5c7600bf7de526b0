"""Sends webhooks to a deployment at a steady rate, and checks that they were stored and published.

python -m tests.engine.load send LEDGER [--rate 50] [--to http://127.0.0.1:3002] [--to ...:3003]
python -m tests.engine.load capture LEDGER     the same through the sandbox, which delivers them
python -m tests.engine.load verify LEDGER      compares with PostgreSQL and with the stream EVENTS

`send` runs until SIGTERM or SIGINT. Like a proxy in front of two gateways, it sends a webhook that
one gateway does not accept to the other; the webhook counts as refused only if neither accepts it.
With `--key FILE` every second event is sent to `POST /v1/events`. With `--none-refused` it fails if
any event was refused. `capture` fails if a delivery got a 401 or 403: a gateway must always accept
the secret and the signing key of PostHog.
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

RESPONSE_SECONDS = 6.0
"""Timeout of a webhook in PostHog."""
POLLS = 300


class Load:
    """Sends events to gateways, and counts the responses."""

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
        self._is_second = False
        self._pause = 1 / rate
        self._outcomes: Counter[str] = Counter()
        self._refused: list[float] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Send until SIGTERM or SIGINT, print the counts, and return the number of refusals."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with self._ledger.open("a") as file:
            async with httpx.AsyncClient(timeout=RESPONSE_SECONDS) as http:
                while not stop.is_set():
                    task = asyncio.create_task(self._send(http, file))
                    self._sending.add(task)
                    task.add_done_callback(self._sending.discard)
                    await asyncio.sleep(self._pause)
                while self._sending:
                    await asyncio.wait(self._sending)
        accepted, refused = self._outcomes["accepted"], self._outcomes["refused"]
        span = max(self._refused) - min(self._refused) if self._refused else 0.0
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self._outcomes.items())
        _print(f"accepted {accepted}, refused {refused} within {span:.1f} s ({outcomes})")
        return refused

    async def _send(self, http: httpx.AsyncClient, file: object) -> None:
        id = str(uuid.uuid4())
        body: dict[str, object] = {
            "event": {"event": "signed_up", "distinct_id": f"u_{id[:2]}", "uuid": id},
            "person": {"properties": {"email": f"u_{id[:2]}@example.com"}},
        }
        self._is_second = not self._is_second
        is_report = self._is_second and self._key is not None
        path = "/v1/events" if is_report else "/v1/webhooks/posthog"
        headers = {"x-posthog-webhook-secret": self._secret} if self._secret else {}
        if is_report:
            headers = {"Authorization": f"Bearer {self._key}"}
            body = {"event": "signed_up", "userId": f"u_{id[:2]}", "idempotencyKey": id}
        for gateway in self._gateways:
            try:
                response = await self._post(http, f"{gateway}{path}", body, headers)
            except httpx.HTTPError as error:
                self._outcomes[type(error).__name__] += 1
                continue
            if response.is_success:
                self._outcomes["accepted"] += 1
                print(id, file=file, flush=True)  # type: ignore[call-overload]
                return
            self._outcomes[str(response.status_code)] += 1
        self._outcomes["refused"] += 1
        self._refused.append(time.monotonic())

    async def _post(
        self, http: httpx.AsyncClient, url: str, body: object, headers: dict[str, str]
    ) -> httpx.Response:
        try:
            return await http.post(url, json=body, headers=headers)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # PostHog does the same: the server may have closed an idle connection.
            self._outcomes["broken"] += 1
            return await http.post(url, json=body, headers=headers)


class Attempt(msgspec.Struct, frozen=True):
    """One request of the sandbox to deliver an event."""

    status: int | None


class Delivery(msgspec.Struct, frozen=True):
    """One event that the sandbox delivers."""

    event_uuid: str
    outcome: str
    attempts: list[Attempt]


class State(msgspec.Struct, frozen=True):
    """The state that the sandbox reports."""

    deliveries: list[Delivery]


async def capture(ledger: Path, posthog: str, rate: float) -> int:
    """Capture events in the sandbox until SIGTERM or SIGINT; record those that it delivered.

    Returns:
        1 if a delivery got a 401 or 403, else 0.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    captured: set[str] = set()
    async with httpx.AsyncClient(base_url=posthog, timeout=RESPONSE_SECONDS) as http:
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
        for _ in range(POLLS):
            state = msgspec.json.decode((await http.get("/_sandbox/state")).content, type=State)
            deliveries = [each for each in state.deliveries if each.event_uuid in captured]
            if not any(each.outcome in {"pending", "retrying"} for each in deliveries):
                break
            await asyncio.sleep(0.2)
    delivered = {each.event_uuid for each in deliveries if each.outcome == "delivered"}
    with ledger.open("a") as file:
        file.writelines(f"{id}\n" for id in sorted(delivered))
    statuses = Counter(str(attempt.status) for each in deliveries for attempt in each.attempts)
    responses = ", ".join(f"{count} {status}" for status, count in statuses.items())
    outcomes = Counter(each.outcome for each in deliveries)
    _print(f"captured {len(captured)}, delivered {len(delivered)} ({dict(outcomes)}; {responses})")
    return 1 if any(str(status) in {"401", "403"} for status in statuses) else 0


async def verify(accepted: set[str], compose: Compose) -> int:
    """Wait until every accepted event is stored, and print how many are stored and published.

    Returns:
        1 if an accepted event was not stored, stored twice or not published, else 0.
    """
    stored = Counter[str]()
    for _ in range(POLLS):
        rows = compose.run(
            *("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "hogsend", "-At"),
            *("-c", "SELECT id FROM ingest.events"),
        )
        stored = Counter(rows.split())
        if accepted <= stored.keys():
            break
        await asyncio.sleep(0.2)
    published = await _published(compose)
    lost, unpublished = accepted - stored.keys(), accepted - published
    repeated = {id for id, count in stored.items() if count > 1}
    _print(
        f"accepted {len(accepted)}, stored {len(accepted & stored.keys())}, published "
        f"{len(accepted & published)}; lost {len(lost)}, stored twice {len(repeated)}, "
        f"never published {len(unpublished)}"
    )
    return 1 if lost or repeated or unpublished else 0


async def _published(compose: Compose) -> set[str]:
    ids: set[str] = set()
    async with servers.operator(compose) as client:
        js = client.jetstream()
        state = (await js.stream_info("EVENTS")).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await js.get_msg("EVENTS", sequence)
            ids.add(msgspec.json.decode(message.data or b"", type=Event).id)
    return ids


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["send", "capture", "verify"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--to", action="append")
    parser.add_argument("--none-refused", action="store_true")
    parser.add_argument("--key", type=Path, help="file with a key for POST /v1/events")
    parser.add_argument("--secret", help="secret that is sent with each webhook")
    parser.add_argument("--posthog", default="http://127.0.0.1:8010")
    parser.add_argument("--directory", type=Path, default=Path())
    arguments = parser.parse_args()
    if arguments.command == "send":
        gateways = arguments.to or ["http://127.0.0.1:3002"]
        key = arguments.key.read_text().strip() if arguments.key else None
        load = Load(arguments.ledger, gateways, arguments.rate, key=key, secret=arguments.secret)
        refused = asyncio.run(load.run())
        return 1 if refused and arguments.none_refused else 0
    if arguments.command == "capture":
        return asyncio.run(capture(arguments.ledger, arguments.posthog, arguments.rate))
    return asyncio.run(
        verify(set(arguments.ledger.read_text().split()), Compose(arguments.directory))
    )


if __name__ == "__main__":
    sys.exit(main())
