"""Routes below `persons/` (posthog/api/person.py): reading and deletion."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from hogsend.contract.json_text import NOT_JSON
from sandbox.errors import invalid, not_found
from sandbox.functions.filters import PropertyFilter, holds
from sandbox.http.access import authorize
from sandbox.http.pagination import Page, paginate
from sandbox.ingestion.people import Person
from sandbox.instance import Instance

MAX_IDS = 1000
"""Maximum number of ids in one deletion."""
AnyRequest = Request[Any, Any, Any]


class ShownPerson(msgspec.Struct, frozen=True, kw_only=True):
    """A person in the API's format; `id` is the uuid."""

    id: str
    uuid: str
    type: str = "person"
    name: str
    distinct_ids: list[str]
    properties: dict[str, Any]
    created_at: str
    is_identified: bool


class BulkDelete(msgspec.Struct, frozen=True):
    """Body of a deletion: which persons to delete, and which of their data."""

    distinct_ids: list[str] = []
    ids: list[str] = []
    delete_events: bool = False
    delete_recordings: bool = False


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a deletion. As in current versions of PostHog, persons count as queued."""

    persons_found: int
    persons_queued_for_deletion: int
    persons_deleted: int = 0
    events_queued_for_deletion: bool
    recordings_queued_for_deletion: bool
    deletion_errors: list[dict[str, str]] = []


class PersonsController(Controller):
    """Persons of a project."""

    path = "/persons"

    @get("/", sync_to_thread=False)
    def list_persons(
        self, request: AnyRequest, instance: NamedDependency[Instance], project_id: FromPath[str]
    ) -> Page[ShownPerson]:
        """List persons, optionally by `distinct_id`, `email`, `search` or `properties`."""
        authorize(request, instance, "person:read", project_id)
        people = instance.people.all()
        if distinct_id := request.query_params.get("distinct_id"):
            person = instance.people.find(distinct_id)
            people = [person] if person else []
        if email := request.query_params.get("email"):
            people = [person for person in people if person.properties.get("email") == email]
        if search := request.query_params.get("search"):
            people = [person for person in people if _is_like(person, search.casefold())]
        conditions = _conditions(request.query_params.get("properties"))
        try:
            people = [
                person
                for person in people
                if all(holds(condition, {}, person.properties) for condition in conditions)
            ]
        except ValueError as error:
            raise invalid(str(error), "properties") from None
        return paginate(request, instance.options.url, [_shown(person) for person in people])

    @post("/bulk_delete", status_code=202)
    async def delete_persons(
        self, request: AnyRequest, instance: NamedDependency[Instance], project_id: FromPath[str]
    ) -> Deletion:
        """Delete persons by distinct id or uuid, optionally with their events."""
        authorize(request, instance, "person:write", project_id)
        try:
            deletion = msgspec.json.decode(await request.body(), type=BulkDelete)
        except NOT_JSON as error:
            raise invalid(str(error)) from error
        if len(deletion.distinct_ids) > MAX_IDS or len(deletion.ids) > MAX_IDS:
            raise invalid("You can only pass 1000 ids in one call")
        if deletion.distinct_ids and deletion.ids:
            raise invalid("You must provide either distinct_ids or ids, not both")
        if not deletion.distinct_ids and not deletion.ids:
            raise invalid("You need to specify either distinct_ids or ids")
        by_uuid = [
            person.distinct_ids[0]
            for person in instance.people.all()
            if person.uuid in deletion.ids
        ]
        removed = [
            person
            for id in (*deletion.distinct_ids, *by_uuid)
            if (person := instance.people.remove(id)) is not None
        ]
        if deletion.delete_events:
            instance.pipeline.delete_events_of(
                {id for person in removed for id in person.distinct_ids}
            )
        return Deletion(
            persons_found=len(removed),
            persons_queued_for_deletion=len(removed),
            events_queued_for_deletion=deletion.delete_events and bool(removed),
            recordings_queued_for_deletion=deletion.delete_recordings and bool(removed),
        )

    @get("/{person_id:str}", sync_to_thread=False)
    def get_person(
        self,
        request: AnyRequest,
        instance: NamedDependency[Instance],
        project_id: FromPath[str],
        person_id: FromPath[str],
    ) -> ShownPerson:
        """Return a person by uuid."""
        authorize(request, instance, "person:read", project_id)
        for person in instance.people.all():
            if person.uuid == person_id:
                return _shown(person)
        raise not_found()


def _conditions(text: str | None) -> list[PropertyFilter]:
    """Decode the query parameter `properties`, a JSON list of conditions that must all be true."""
    if not text:
        return []
    try:
        conditions = msgspec.json.decode(text, type=list[PropertyFilter])
        return [msgspec.structs.replace(condition, type="person") for condition in conditions]
    except NOT_JSON:
        raise invalid("Properties are unparsable!", "properties") from None


def _is_like(person: Person, search: str) -> bool:
    """Whether the email, the name or a distinct id contains a text, in any case."""
    texts = [person.properties.get(key) for key in ("email", "name")] + person.distinct_ids
    return any(isinstance(text, str) and search in text.casefold() for text in texts)


def _shown(person: Person) -> ShownPerson:
    return ShownPerson(
        id=person.uuid,
        uuid=person.uuid,
        name=person.name(person.distinct_ids[0]),
        distinct_ids=person.distinct_ids,
        properties=person.properties,
        created_at=person.created_at,
        is_identified=person.is_identified,
    )
