"""Client for the admin routes of a Hogsend server, this project's or upstream's (contract 1)."""

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
    EventTrace,
    Grant,
    NewBackfill,
    Provisioning,
    SentEvent,
    StoreRequest,
)
from cli.http_failure import failure_reason
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
Switch = Literal["pause", "resume"]

HEALTH_SECONDS = 6.0
"""Timeout for health and configuration. The server waits at most two seconds for each service."""
BACKFILL_SECONDS = 90.0
"""Timeout for starting a backfill: PostHog counts the events first."""
PROVISION_SECONDS = 120.0
"""Timeout for provisioning, which reads several pages of PostHog's API."""
SCAN_SECONDS = 300.0
"""Timeout for exports and previews of an erasure, which scan all events and streams."""
REPLAY_SECONDS = 120.0
"""Timeout for replays. The server stops earlier by itself and reports that more remains."""

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
"""The last bytes of a complete export."""


class AdminClient(AdminConnection):
    """The admin routes of one server, each as a method."""

    def health(self) -> bytes:
        """Return the undecoded health document; requested without the admin key (contract 8.6).

        Raises:
            AdminError: no response, or not a 2xx.
        """
        return self._request("GET", "/v1/health", admin=False, timeout=HEALTH_SECONDS)

    def connect_info(self) -> tuple[ConnectInfo, bytes]:
        """Return the server's PostHog configuration, decoded and undecoded.

        Raises:
            AdminError: no response, not a 2xx, or not the document of a Hogsend server.
        """
        response = self._request("GET", CONNECT_INFO, timeout=HEALTH_SECONDS)
        return self._decode(response, ConnectInfo), response

    def diagnosis(self) -> bytes:
        """Return the server's diagnosis of its connection to PostHog, undecoded.

        Raises:
            AdminError: no response or not a 2xx; 404 from a server without this route.
        """
        return self._request("GET", DIAGNOSIS)

    def store(self, grant: Grant) -> None:
        """Store a credential; it replaces the current one.

        Raises:
            AdminError: the credential was not stored.
        """
        self._request("PUT", CREDENTIAL, msgspec.json.encode(StoreRequest("oauth", grant)))

    def credential(self) -> None:
        """Check that a readable credential is stored.

        Raises:
            AdminError: 404 if none is stored, 409 if it cannot be read; `code` has the reason.
        """
        self._request("GET", CREDENTIAL)

    def disconnect(self) -> Deleted:
        """Delete the credential and the secrets derived from it.

        Raises:
            AdminError: 404 if none is stored; or it was not deleted.
        """
        return self._decode(self._request("DELETE", CREDENTIAL), Deleted)

    def provision(
        self, *, placeholder: bool = False, rotate: Collection[Rotated] = ()
    ) -> Provisioning:
        """Create or repair the webhook destination in PostHog.

        Args:
            placeholder: create it disabled, for a server that PostHog cannot reach yet.
            rotate: secrets of the destination to replace by new ones.

        Raises:
            AdminError: provisioning failed; `detail` and `remediation` have PostHog's reason.
        """
        path = f"{PROVISION}?placeholder=true" if placeholder else PROVISION
        if rotate:
            path = f"{PROVISION}?{'&'.join(f'{one}=true' for one in rotate)}"
        response = self._request("POST", path, b"{}", timeout=PROVISION_SECONDS)
        try:
            return msgspec.json.decode(response, type=Provisioning)
        except NOT_JSON:
            return Provisioning()

    def count_backfill(self, new_backfill: NewBackfill) -> BackfillCount:
        """Count the events that a backfill would read; raises as `provision`."""
        return self._decode(self._post_backfill(f"{BACKFILLS}/count", new_backfill), BackfillCount)

    def start_backfill(self, new_backfill: NewBackfill) -> Backfill:
        """Start a backfill, or continue an unfinished one; raises as `provision`."""
        return self._decode(self._post_backfill(BACKFILLS, new_backfill), Backfill)

    def backfills(self) -> BackfillList:
        """Return the latest backfills, newest first; raises as `dead_letters`."""
        return self._decode(self._request("GET", BACKFILLS), BackfillList)

    def cancel_backfill(self, id: str) -> Backfill:
        """Cancel a backfill; raises as `dead_letters`, 404 if it does not exist."""
        return self._decode(self._request("POST", f"{BACKFILLS}/{id}/cancel"), Backfill)

    def _post_backfill(self, path: str, new_backfill: NewBackfill) -> bytes:
        body = msgspec.json.encode(new_backfill)
        return self._request("POST", path, body, timeout=BACKFILL_SECONDS)

    def contact_page(self, query: ContactQuery) -> ContactPage:
        """Return a page of contacts; raises as `dead_letters`."""
        parameters = urlencode(msgspec.to_builtins(query))
        return self._decode(self._request("GET", f"{CONTACTS}?{parameters}"), ContactPage)

    def contacts(self, key: str) -> ContactList:
        """Return the contacts with a user id, email address or contact id.

        Raises as `dead_letters`.
        """
        return self._decode(
            self._request("GET", f"{CONTACTS}?{urlencode({'key': key})}"), ContactList
        )

    def split_contacts(self, merge: int) -> ContactList:
        """Undo a merge and return both contacts.

        Raises as `dead_letters`, 404 if there is no such merge.
        """
        return self._decode(
            self._request("POST", f"{CONTACTS}/merges/{merge}/split", timeout=REPLAY_SECONDS),
            ContactList,
        )

    def erase_contact(self, contact_id: str, *, posthog: bool = False) -> Erasure:
        """Erase a contact by its id; with `posthog`, delete the person in PostHog first.

        Raises:
            AdminError: as for `dead_letters`; 404 if there is no such contact; 409 or 502, with a
                remediation, if PostHog could not be reached or refused.
        """
        path = f"{CONTACTS}/{quote(contact_id, safe='')}"
        if posthog:
            path += "?posthog=true"
        return self._decode(self._request("DELETE", path, timeout=BACKFILL_SECONDS), Erasure)

    def preview_erasure(self, contact_id: str) -> ErasurePreview:
        """Count what an erasure would delete.

        Raises as `dead_letters`, 404 if there is no such contact.
        """
        path = f"{CONTACTS}/{quote(contact_id, safe='')}/erasure"
        return self._decode(self._request("GET", path, timeout=SCAN_SECONDS), ErasurePreview)

    def export_contact(self, contact_id: str, write: Callable[[bytes], object]) -> None:
        """Stream everything about a contact to `write`, chunk by chunk.

        Raises:
            AdminError: there is no such contact, or the export ended before it was complete.
        """
        path = f"{CONTACTS}/{quote(contact_id, safe='')}/export"
        end = b""
        try:
            for chunk in self._stream(path, timeout=SCAN_SECONDS):
                write(chunk)
                end = (end + chunk)[-len(COMPLETE) :]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise AdminError(
                f"the export is incomplete ({failure_reason(error)})",
                "run it again; the gateway's log has the reason",
            ) from None
        if end != COMPLETE:
            raise AdminError(
                "the export is incomplete",
                "run it again; the gateway's log has the reason",
            )

    def dead_letters(
        self, stream: str | None, reason: str | None, limit: int, before: int | None = None
    ) -> DeadLetterPage:
        """Return a page of dead letters, newest first.

        Raises:
            AdminError: no response, not a 2xx, or not the document of a Hogsend server.
        """
        query = {"stream": stream, "reason": reason, "limit": limit, "before": before}
        parameters = urlencode({name: value for name, value in query.items() if value is not None})
        return self._decode(self._request("GET", f"{DEAD_LETTERS}?{parameters}"), DeadLetterPage)

    def dead_letter(self, sequence: int) -> ListedDeadLetter:
        """Return one dead letter with its message.

        Raises as `dead_letters`, 404 if it does not exist.
        """
        return self._decode(self._request("GET", f"{DEAD_LETTERS}/{sequence}"), ListedDeadLetter)

    def change_dead_letters(
        self, action: Literal["replay", "purge"], selection: bytes
    ) -> DeadLettersDone:
        """Replay or purge dead letters selected by a JSON document; raises as `dead_letters`."""
        response = self._request(
            "POST", f"{DEAD_LETTERS}/{action}", selection, timeout=REPLAY_SECONDS
        )
        return self._decode(response, DeadLettersDone)

    def audit(self, query: AuditQuery) -> AuditPage:
        """Return a page of the audit trail, newest first; raises as `dead_letters`."""
        parameters = urlencode(msgspec.to_builtins(query))
        return self._decode(self._request("GET", f"{AUDIT}?{parameters}"), AuditPage)

    def destinations(self, limit: int, offset: int) -> DestinationPage:
        """Return a page of destinations, newest first; raises as `dead_letters`."""
        parameters = urlencode({"limit": limit, "offset": offset})
        return self._decode(self._request("GET", f"{DESTINATIONS}?{parameters}"), DestinationPage)

    def destination(self, id: str) -> OutboundDestination:
        """Return a destination; raises as `dead_letters`, 404 if it does not exist."""
        return self._decode(self._request("GET", _destination_path(id)), OutboundDestination)

    def deliveries(self, id: str, query: DeliveryQuery) -> DeliveryPage:
        """Return a page of a destination's deliveries, newest first; raises as `destination`."""
        parameters = urlencode(msgspec.to_builtins(query))
        return self._decode(
            self._request("GET", f"{_destination_path(id)}/deliveries?{parameters}"), DeliveryPage
        )

    def switch_destination(self, id: str, switch: Switch) -> OutboundDestination:
        """Pause or resume a destination; raises as `destination`."""
        path = f"{_destination_path(id)}/{switch}"
        return self._decode(self._request("POST", path), OutboundDestination)

    def test_destination(self, id: str) -> TestQueued:
        """Send a test event to one destination; raises as `destination`."""
        return self._decode(self._request("POST", f"{_destination_path(id)}/test"), TestQueued)

    def delete_destination(self, id: str) -> Deleted:
        """Delete a destination and its history; raises as `destination`."""
        return self._decode(self._request("DELETE", _destination_path(id)), Deleted)

    def events(self, query: EventQuery) -> EventPage:
        """Return a page of events, newest first; raises as `dead_letters`."""
        parameters = urlencode(msgspec.to_builtins(query))
        return self._decode(self._request("GET", f"{EVENTS}?{parameters}"), EventPage)

    def event_trace(self, event: StoredEvent) -> EventTrace:
        """Return an event's way through Hogsend; raises as `dead_letters`, 404 if it is deleted."""
        key = {
            "source": event.source,
            "id": event.id,
            "event": event.event,
            "userId": event.user_id,
        }
        return self._decode(self._request("GET", f"{EVENTS}/trace?{urlencode(key)}"), EventTrace)

    def replay_events(self, replay: EventReplay) -> EventsReplayed:
        """Replay the next batch of events to a durable consumer; raises as `dead_letters`."""
        body = msgspec.json.encode(replay)
        response = self._request("POST", f"{EVENTS}/replay", body, timeout=REPLAY_SECONDS)
        return self._decode(response, EventsReplayed)

    def send_event(self, event: SentEvent) -> Recorded:
        """Store an event and publish it to subscribers; raises as `dead_letters`."""
        return self._decode(self._request("POST", RECORD, msgspec.json.encode(event)), Recorded)


def _destination_path(id: str) -> str:
    return f"{DESTINATIONS}/{quote(id, safe='')}"
