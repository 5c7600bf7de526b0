"""Everything about a person, exported or erased; see `docs/privacy.md`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, MediaType, Response, delete, get
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
    """Everything about one person; each item as it is stored."""

    exported_at: str
    contact: dict[str, Any]
    keys: list[dict[str, Any]]
    merges: list[dict[str, Any]]
    events: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    audit: list[dict[str, Any]]
    complete: Literal[True]
    """The last key: a document without it was cut off."""


class ContactPrivacyController(Controller):
    """What a person may ask for."""

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
        self, contact_id: ContactId, bus: NamedDependency[Connection]
    ) -> Stream:
        """Give everything that is known about a person, as one document.

        The contact, what leads to it, its merges, stored events, messages on every stream, dead
        letters included, and the entries of the audit trail that name it. It is written as it is
        found; one that an error ended lacks its end. The request is in the audit trail.
        """
        wanted = ExportContact(contact_id=contact_id, part="contact")
        first = await bus.request(INGEST_EXPORT, wanted)
        return Stream(document(bus, contact_id, first), media_type=MediaType.JSON)

    @get(
        "/{contact_id:uuid}/erasure",
        guards=[admin_only],
        operation_id="previewErasure",
        summary="Count what erasing a person would take",
        responses=admin_errors(404),
    )
    async def preview_erasure(
        self, contact_id: ContactId, bus: NamedDependency[Connection]
    ) -> ErasurePreview:
        """Count what an erasure would delete now. Looks through all of it, and changes nothing."""
        counts: dict[str, Counter[str]] = {}
        for part in ERASED_PARTS:
            found = counts.setdefault(part, Counter())
            async for page in pages(bus, contact_id, part, only_count=True):
                found.update(page.counts)
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
            202: ResponseSpec(Erasure, description="The contact is gone; the rest follows."),
            409: ResponseSpec(RefusalBody, description="Something is missing on this side."),
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
                name="posthog", description="Delete the person in PostHog first, events included."
            ),
        ] = "false",
    ) -> Response[Erasure | RefusalBody]:
        """Erase everything about a person, here and on every stream.

        The contact is gone with the answer; events and messages follow, and `finishedAt` says when
        they are. Asking again changes nothing, and answers how far it is.

        With `posthog` PostHog deletes first. If it refuses, nothing is erased here either: what the
        person is known by would be forgotten, and with it whom to delete there.
        """
        if (
            in_posthog == "true"
            and (refusal := await _delete_in_posthog(bus, contact_id)) is not None
        ):
            return refusal_response(refusal)
        erasure = await bus.request(INGEST_ERASE, EraseContact(contact_id=contact_id))
        return Response(erasure, media_type=MediaType.JSON)


async def _delete_in_posthog(bus: Connection, contact_id: UUID) -> Refusal | None:
    asked = set[str]()
    try:
        # PostHog takes its time, in which another id may be merged into this contact.
        while wanted := [id for id in await _known_by(bus, contact_id) if id not in asked]:
            deletion = await bus.request(ANALYTICS_DELETE_PERSON, DeletePerson(wanted))
            if deletion.refusal is not None:
                return deletion.refusal
            asked.update(wanted)
    except NotFound:
        # Another request has erased the contact meanwhile.
        if asked:
            return None
        return Refusal(
            reason="precondition",
            code="contact_not_known",
            detail="There is no such contact (any more), so it has no known person in PostHog.",
            remediation="Delete the person in PostHog by hand; without `posthog` this request says "
            "how far an erasure is.",
        )
    return None


async def _known_by(bus: Connection, contact_id: UUID) -> list[str]:
    # It may be the id of one that was merged into this contact, which has its own.
    ids = [str(contact_id)]
    for part in _KNOWN_BY:
        async for page in pages(bus, contact_id, part):
            known = [msgspec.json.decode(item, type=_KnownBy) for item in page.items]
            ids += [text for one in known if (text := one.id or one.value)]
    return list(dict.fromkeys(ids))


_KNOWN_BY: tuple[Part, ...] = ("contact", "keys")


class _KnownBy(msgspec.Struct, frozen=True):
    """What an export says of a contact, or of something that leads to it."""

    id: str = ""
    value: str = ""
