"""Client for the admin routes of a Hogsend server, ours or upstream's (contract 0.1 and 1)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal
from urllib.parse import quote, urlencode

import httpx
import msgspec

from cli.admin.connection import AdminConnection
from cli.admin.errors import AdminError
from cli.admin.messages import (
    AuditQuery,
    BackfillCount,
    ConnectInfo,
    ContactQuery,
    DeliveryQuery,
    EventQuery,
    EventReplay,
    EventWay,
    Grant,
    NewBackfill,
    Provisioning,
    SentEvent,
    StoreRequest,
)
from cli.no_answer import why_no_answer
from hogsend.contract.audit import AuditPage
from hogsend.contract.backfills import Backfill, BackfillList
from hogsend.contract.contacts import ContactList, Erasure, ErasurePreview
from hogsend.contract.credentials import Deleted
from hogsend.contract.dead_letters import DeadLetterPage, DeadLettersDone, ListedDeadLetter
from hogsend.contract.destinations import (
    DeliveryPage,
    DestinationPage,
    OutboundDestination,
    TestQueued,
)
from hogsend.contract.directory import ContactPage
from hogsend.contract.events import EventPage, Recorded, StoredEvent
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.replays import EventsReplayed

Rotated = Literal["rotateSigningKey", "rotateWebhookSecret"]
Turn = Literal["pause", "resume"]

HEALTH_SECONDS = 6.0
"""The server waits no longer than two seconds for each answer about its health or configuration."""
BACKFILL_SECONDS = 90.0
"""PostHog counts the events first."""
PROVISION_SECONDS = 120.0
"""Provisioning reads several pages of PostHog's API, each with its own deadline."""

LOOK_SECONDS = 300.0
"""Events and streams are looked through as a whole."""

REPLAY_SECONDS = 120.0
"""The server stops earlier by itself and reports that there is more."""

CONNECT_INFO = "/v1/admin/analytics/connect-info"
DIAGNOSIS = "/v1/admin/analytics/diagnosis"
PROVISION = "/v1/admin/analytics/provision-loop"
CREDENTIAL = "/v1/admin/provider-credentials/posthog"
AUDIT = "/v1/admin/audit"
BACKFILLS = "/v1/admin/backfills"
CONTACTS = "/v1/admin/contacts"
DEAD_LETTERS = "/v1/admin/deadletters"
DESTINATIONS = "/v1/admin/webhooks"
EVENTS = "/v1/admin/events"
RECORD = "/v1/events"
COMPLETE = b'"complete":true}\n'
"""How an export ends that is whole."""


class AdminClient(AdminConnection):
    """The routes of one server, each as a method."""

    def health(self) -> bytes:
        """Return the health document, undecoded; sent without the admin key (contract 8.6).

        Raises:
            AdminError: no answer, or not a 2xx.
        """
        return self._ask("GET", "/v1/health", admin=False, timeout=HEALTH_SECONDS)

    def connect_info(self) -> tuple[ConnectInfo, bytes]:
        """Return the server's PostHog configuration, decoded and undecoded.

        Raises:
            AdminError: no answer, not a 2xx, or not what a Hogsend server answers.
        """
        answer = self._ask("GET", CONNECT_INFO, timeout=HEALTH_SECONDS)
        return self._decode(answer, ConnectInfo), answer

    def diagnosis(self) -> bytes:
        """Return the server's own diagnosis of its PostHog side, undecoded.

        Raises:
            AdminError: no answer or not a 2xx; 404 from a server without this route.
        """
        return self._ask("GET", DIAGNOSIS)

    def store(self, grant: Grant) -> None:
        """Store a credential in place of the current one.

        Raises:
            AdminError: it was not stored.
        """
        self._ask("PUT", CREDENTIAL, msgspec.json.encode(StoreRequest("oauth", grant)))

    def credential(self) -> None:
        """Ask for the stored credential's description.

        Raises:
            AdminError: 404 when there is none, 409 when it cannot be read; `code` says why.
        """
        self._ask("GET", CREDENTIAL)

    def disconnect(self) -> Deleted:
        """Delete the credential, and what was derived from it.

        Raises:
            AdminError: 404 when there is none; or it was not deleted.
        """
        return self._decode(self._ask("DELETE", CREDENTIAL), Deleted)

    def provision(
        self, *, placeholder: bool = False, rotate: Collection[Rotated] = ()
    ) -> Provisioning:
        """Create or repair PostHog's webhook destination; `rotate` changes secrets of it.

        Raises:
            AdminError: it failed; `detail` and `remediation` say what PostHog answered.
        """
        path = f"{PROVISION}?placeholder=true" if placeholder else PROVISION
        if rotate:
            path = f"{PROVISION}?{'&'.join(f'{one}=true' for one in rotate)}"
        answer = self._ask("POST", path, b"{}", timeout=PROVISION_SECONDS)
        try:
            return msgspec.json.decode(answer, type=Provisioning)
        except NOT_JSON:
            return Provisioning()

    def count_backfill(self, wanted: NewBackfill) -> BackfillCount:
        """Count what a backfill would read; raises as `provision`."""
        return self._decode(self._begin(f"{BACKFILLS}/count", wanted), BackfillCount)

    def start_backfill(self, wanted: NewBackfill) -> Backfill:
        """Start a backfill, or go on with one; raises as `provision`."""
        return self._decode(self._begin(BACKFILLS, wanted), Backfill)

    def backfills(self) -> BackfillList:
        """Return the latest backfills, the latest first; raises as `dead_letters`."""
        return self._decode(self._ask("GET", BACKFILLS), BackfillList)

    def cancel_backfill(self, id: str) -> Backfill:
        """Stop a backfill; raises as `dead_letters`, 404 if there is none."""
        return self._decode(self._ask("POST", f"{BACKFILLS}/{id}/cancel"), Backfill)

    def _begin(self, path: str, wanted: NewBackfill) -> bytes:
        body = msgspec.json.encode(wanted)
        return self._ask("POST", path, body, timeout=BACKFILL_SECONDS)

    def contact_page(self, query: ContactQuery) -> ContactPage:
        """Return a page of contacts; raises as `dead_letters`."""
        given = urlencode(msgspec.to_builtins(query))
        return self._decode(self._ask("GET", f"{CONTACTS}?{given}"), ContactPage)

    def contacts(self, key: str) -> ContactList:
        """Return the contacts that a text leads to; raises as `dead_letters`."""
        return self._decode(self._ask("GET", f"{CONTACTS}?{urlencode({'key': key})}"), ContactList)

    def split_contacts(self, merge: int) -> ContactList:
        """Undo a merge and return both contacts; raises as `dead_letters`, 404 if there is none."""
        return self._decode(
            self._ask("POST", f"{CONTACTS}/merges/{merge}/split", timeout=REPLAY_SECONDS),
            ContactList,
        )

    def erase_contact(self, contact_id: str, *, posthog: bool = False) -> Erasure:
        """Erase a contact by its id, with `posthog` there first.

        Raises:
            AdminError: as for `dead_letters`; 404 if there is none, 409 or 502 with what to do if
                PostHog was not asked or refused.
        """
        path = f"{CONTACTS}/{quote(contact_id, safe='')}"
        if posthog:
            path += "?posthog=true"
        return self._decode(self._ask("DELETE", path, timeout=BACKFILL_SECONDS), Erasure)

    def preview_erasure(self, contact_id: str) -> ErasurePreview:
        """Count what an erasure would take; raises as `dead_letters`, 404 if there is none."""
        path = f"{CONTACTS}/{quote(contact_id, safe='')}/erasure"
        return self._decode(self._ask("GET", path, timeout=LOOK_SECONDS), ErasurePreview)

    def export_contact(self, contact_id: str, write: Callable[[bytes], object]) -> None:
        """Write everything about a contact, piece by piece as it comes.

        Raises:
            AdminError: there is no such contact, or what was written is not complete.
        """
        path = f"{CONTACTS}/{quote(contact_id, safe='')}/export"
        end = b""
        try:
            for piece in self._pieces(path, timeout=LOOK_SECONDS):
                write(piece)
                end = (end + piece)[-len(COMPLETE) :]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise AdminError(
                f"the export is incomplete ({why_no_answer(error)})",
                "run it again; the log of the gateway says what happened",
            ) from None
        if end != COMPLETE:
            raise AdminError(
                "the export is incomplete",
                "run it again; the log of the gateway says what happened",
            )

    def dead_letters(
        self, stream: str | None, reason: str | None, limit: int, before: int | None = None
    ) -> DeadLetterPage:
        """Return a page of dead letters, newest first.

        Raises:
            AdminError: no answer, not a 2xx, or not what a Hogsend server answers.
        """
        query = {"stream": stream, "reason": reason, "limit": limit, "before": before}
        given = urlencode({name: value for name, value in query.items() if value is not None})
        return self._decode(self._ask("GET", f"{DEAD_LETTERS}?{given}"), DeadLetterPage)

    def dead_letter(self, sequence: int) -> ListedDeadLetter:
        """Return one dead letter with its message; raises as `dead_letters`, 404 if it is gone."""
        return self._decode(self._ask("GET", f"{DEAD_LETTERS}/{sequence}"), ListedDeadLetter)

    def change_dead_letters(
        self, action: Literal["replay", "purge"], selection: bytes
    ) -> DeadLettersDone:
        """Replay or purge dead letters selected by a JSON document; raises as `dead_letters`."""
        answer = self._ask("POST", f"{DEAD_LETTERS}/{action}", selection, timeout=REPLAY_SECONDS)
        return self._decode(answer, DeadLettersDone)

    def audit(self, query: AuditQuery) -> AuditPage:
        """Return a page of the audit trail, the latest first; raises as `dead_letters`."""
        given = urlencode(msgspec.to_builtins(query))
        return self._decode(self._ask("GET", f"{AUDIT}?{given}"), AuditPage)

    def destinations(self, limit: int, offset: int) -> DestinationPage:
        """Return a page of destinations, the newest first; raises as `dead_letters`."""
        given = urlencode({"limit": limit, "offset": offset})
        return self._decode(self._ask("GET", f"{DESTINATIONS}?{given}"), DestinationPage)

    def destination(self, id: str) -> OutboundDestination:
        """Return a destination; raises as `dead_letters`, 404 if there is none."""
        return self._decode(self._ask("GET", _destination(id)), OutboundDestination)

    def deliveries(self, id: str, query: DeliveryQuery) -> DeliveryPage:
        """Return what became of a destination's events; raises as `destination`."""
        given = urlencode(msgspec.to_builtins(query))
        return self._decode(
            self._ask("GET", f"{_destination(id)}/deliveries?{given}"), DeliveryPage
        )

    def turn_destination(self, id: str, turn: Turn) -> OutboundDestination:
        """Pause or resume a destination; raises as `destination`."""
        return self._decode(self._ask("POST", f"{_destination(id)}/{turn}"), OutboundDestination)

    def test_destination(self, id: str) -> TestQueued:
        """Send a test event to one destination; raises as `destination`."""
        return self._decode(self._ask("POST", f"{_destination(id)}/test"), TestQueued)

    def delete_destination(self, id: str) -> Deleted:
        """Delete a destination and its history; raises as `destination`."""
        return self._decode(self._ask("DELETE", _destination(id)), Deleted)

    def events(self, query: EventQuery) -> EventPage:
        """Return a page of events, the latest first; raises as `dead_letters`."""
        given = urlencode(msgspec.to_builtins(query))
        return self._decode(self._ask("GET", f"{EVENTS}?{given}"), EventPage)

    def event_way(self, event: StoredEvent) -> EventWay:
        """Return what became of an event; raises as `dead_letters`, 404 if it is gone."""
        known_by = {
            "source": event.source,
            "id": event.id,
            "event": event.event,
            "userId": event.user_id,
        }
        return self._decode(self._ask("GET", f"{EVENTS}/trace?{urlencode(known_by)}"), EventWay)

    def replay_events(self, wanted: EventReplay) -> EventsReplayed:
        """Give a durable a part of what it gets again; raises as `dead_letters`."""
        body = msgspec.json.encode(wanted)
        answer = self._ask("POST", f"{EVENTS}/replay", body, timeout=REPLAY_SECONDS)
        return self._decode(answer, EventsReplayed)

    def send_event(self, event: SentEvent) -> Recorded:
        """Store an event and announce it; raises as `dead_letters`."""
        return self._decode(self._ask("POST", RECORD, msgspec.json.encode(event)), Recorded)


def _destination(id: str) -> str:
    return f"{DESTINATIONS}/{quote(id, safe='')}"
