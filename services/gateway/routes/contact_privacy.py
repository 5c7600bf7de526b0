"""Exports and erases everything about a person; see `docs/privacy.md`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, MediaType, Request, Response, delete, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from hogsend.contract.contacts import INGEST_ERASE, EraseContact, Erasure, ErasurePreview
from hogsend.contract.errors import NotFound
from hogsend.contract.exports import INGEST_EXPORT, ExportContact, Part
from hogsend.contract.persons import ANALYTICS_DELETE_PERSON, DeletePerson
from hogsend.contract.provisioning import Refusal
from hogsend.transport.connection import Connection
from services.gateway.audit import recorded
from services.gateway.auth import ADMIN_SECURITY, admin_only
from services.gateway.error_responses import RefusalBody, admin_errors, refusal_response
from services.gateway.exports import document, pages

ContactId = Annotated[
    UUID, PathParameter(description="Id of the contact, or of one merged into it.")
]
ERASED_PARTS: tuple[Part, ...] = ("keys", "merges", "events", "messages")


class ContactExport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything about one person. Each item has the form in which it is stored."""

    exported_at: str
    """When the export started (ISO 8601, UTC)."""
    contact: dict[str, Any]
    """The contact, with its email address, time zone and properties."""
    keys: list[dict[str, Any]]
    """User ids and email addresses of the contact, each with `kind` and `value`."""
    merges: list[dict[str, Any]]
    """Merges of other contacts into this one."""
    events: list[dict[str, Any]]
    """Stored events of all its user ids."""
    messages: list[dict[str, Any]]
    """Messages about the person on NATS streams, dead letters included."""
    audit: list[dict[str, Any]]
    """Entries of the audit trail that name the contact."""
    complete: Literal[True]
    """The last key. A document without it is truncated."""


class ContactPrivacyController(Controller):
    """Requests that a person may make by law: a copy of their data, and its erasure."""

    path = "/v1/admin/contacts"
    tags = ("Admin",)
    security = ADMIN_SECURITY

    @get(
        "/{contact_id:uuid}/export",
        guards=[recorded, admin_only],
        operation_id="exportContact",
        summary="Export a person",
        responses={
            200: ResponseSpec(ContactExport, description="Everything about the person."),
            **admin_errors(404),
        },
    )
    async def export_contact(
        self,
        request: Request[Any, Any, Any],
        contact_id: ContactId,
        bus: NamedDependency[Connection],
    ) -> Stream:
        """Export everything that is stored about a person, as one document.

        The document contains the contact, its ids and addresses, its merges, its events, messages
        on all streams including dead letters, and entries of the audit trail that name the contact.
        It is streamed while the data is read. If an error occurs, the document is truncated, and
        has no `complete`. The request is recorded in the audit trail.
        """
        # Litestar reads a streaming request too, to notice a disconnect. A body that is refused
        # only then would cut off the response.
        await request.body()
        query = ExportContact(contact_id=contact_id, part="contact")
        first = await bus.request(INGEST_EXPORT, query)
        return Stream(document(bus, contact_id, first), media_type=MediaType.JSON)

    @get(
        "/{contact_id:uuid}/erasure",
        guards=[admin_only],
        operation_id="previewErasure",
        summary="Count what erasing a person would delete",
        responses=admin_errors(404),
    )
    async def preview_erasure(
        self, contact_id: ContactId, bus: NamedDependency[Connection]
    ) -> ErasurePreview:
        """Count what an erasure would delete now, without changing anything.

        This reads everything that is stored about the person.
        """
        counts: dict[str, Counter[str]] = {}
        for part in ERASED_PARTS:
            part_counts = counts.setdefault(part, Counter())
            async for page in pages(bus, contact_id, part, only_count=True):
                part_counts.update(page.counts)
        return ErasurePreview(
            contact_id=str(contact_id),
            keys=counts["keys"].total(),
            merges=counts["merges"].total(),
            events=counts["events"].total(),
            messages=dict(counts["messages"]),
        )

    @delete(
        "/{contact_id:uuid}",
        guards=[admin_only],
        status_code=202,
        operation_id="eraseContact",
        summary="Erase a person",
        responses={
            202: ResponseSpec(
                Erasure,
                description="The contact is deleted; its events and messages follow.",
            ),
            409: ResponseSpec(RefusalBody, description="This instance lacks a prerequisite."),
            502: ResponseSpec(RefusalBody, description="PostHog refused; nothing was erased."),
            **admin_errors(404),
        },
    )
    async def erase_contact(
        self,
        contact_id: ContactId,
        bus: NamedDependency[Connection],
        in_posthog: Annotated[
            Literal["true", "false"],
            QueryParameter(
                name="posthog",
                description="First delete the person and its events in PostHog.",
            ),
        ] = "false",
    ) -> Response[Erasure | RefusalBody]:
        """Erase everything about a person, in the database and on all streams.

        The contact is deleted when the response is sent. Its events and messages are deleted
        afterwards; `finishedAt` is the time when that is done. Repeating the request changes
        nothing, and returns the progress.

        With `posthog`, the person is deleted in PostHog first. If PostHog refuses, nothing is
        erased here either, because the ids with which to delete the person there would be lost.
        """
        if (
            in_posthog == "true"
            and (refusal := await _delete_in_posthog(bus, contact_id)) is not None
        ):
            return refusal_response(refusal)
        erasure = await bus.request(INGEST_ERASE, EraseContact(contact_id=contact_id))
        return Response(erasure, media_type=MediaType.JSON)


async def _delete_in_posthog(bus: Connection, contact_id: UUID) -> Refusal | None:
    """Delete a person in PostHog under all its ids. Return the refusal, if there is one."""
    deleted = set[str]()
    try:
        # Repeated, because another id may be merged into this contact while PostHog deletes.
        while ids := [id for id in await _distinct_ids(bus, contact_id) if id not in deleted]:
            deletion = await bus.request(ANALYTICS_DELETE_PERSON, DeletePerson(ids))
            if deletion.refusal is not None:
                return deletion.refusal
            deleted.update(ids)
    except NotFound:
        # Another request erased the contact meanwhile.
        if deleted:
            return None
        return Refusal(
            reason="precondition",
            code="contact_not_known",
            detail="There is no such contact (any more), so its person in PostHog is not known.",
            remediation="Delete the person in PostHog by hand. Without `posthog` this request "
            "returns the progress of an erasure.",
        )
    return None


async def _distinct_ids(bus: Connection, contact_id: UUID) -> list[str]:
    """Return all ids under which PostHog may know a contact."""
    # `contact_id` may be that of a contact that was merged into this one, which has another id.
    ids = [str(contact_id)]
    for part in _PARTS_WITH_IDS:
        async for page in pages(bus, contact_id, part):
            rows = [msgspec.json.decode(item, type=_ExportedId) for item in page.items]
            ids += [text for row in rows if (text := row.id or row.value)]
    return list(dict.fromkeys(ids))


_PARTS_WITH_IDS: tuple[Part, ...] = ("contact", "keys")


class _ExportedId(msgspec.Struct, frozen=True):
    """The id of an exported contact, or the value of one of its exported keys."""

    id: str = ""
    value: str = ""
