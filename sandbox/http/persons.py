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

MOST = 1000
"""Ids in one deletion."""
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
    """Which persons to delete, and what of them."""

    distinct_ids: list[str] = []
    ids: list[str] = []
    delete_events: bool = False
    delete_recordings: bool = False


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What a deletion found."""

    persons_found: int
    persons_deleted: int
    events_queued_for_deletion: bool
    recordings_queued_for_deletion: bool
    deletion_errors: list[str] = []


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
            found = instance.people.find(distinct_id)
            people = [found] if found else []
        if email := request.query_params.get("email"):
            people = [one for one in people if one.properties.get("email") == email]
        if search := request.query_params.get("search"):
            people = [one for one in people if _is_like(one, search.casefold())]
        conditions = _conditions(request.query_params.get("properties"))
        try:
            people = [
                one for one in people if all(holds(each, {}, one.properties) for each in conditions)
            ]
        except ValueError as error:
            raise invalid(str(error), "properties") from None
        return paginate(request, instance.options.url, [_shown(one) for one in people])

    @post("/bulk_delete", status_code=202)
    async def delete_persons(
        self, request: AnyRequest, instance: NamedDependency[Instance], project_id: FromPath[str]
    ) -> Deletion:
        """Delete persons by distinct id or uuid, with their events if that is wanted."""
        authorize(request, instance, "person:write", project_id)
        try:
            wanted = msgspec.json.decode(await request.body(), type=BulkDelete)
        except NOT_JSON as error:
            raise invalid(str(error)) from error
        if len(wanted.distinct_ids) > MOST or len(wanted.ids) > MOST:
            raise invalid("You can only pass 1000 ids in one call")
        if not wanted.distinct_ids and not wanted.ids:
            raise invalid("You need to specify either distinct_ids or ids")
        by_uuid = [one.distinct_ids[0] for one in instance.people.all() if one.uuid in wanted.ids]
        removed = [
            person
            for id in (*wanted.distinct_ids, *by_uuid)
            if (person := instance.people.remove(id)) is not None
        ]
        if wanted.delete_events:
            instance.pipeline.forget({id for one in removed for id in one.distinct_ids})
        return Deletion(
            persons_found=len(removed),
            persons_deleted=len(removed),
            events_queued_for_deletion=wanted.delete_events,
            recordings_queued_for_deletion=wanted.delete_recordings,
        )

    @get("/{person_id:str}", sync_to_thread=False)
    def get_person(
        self,
        request: AnyRequest,
        instance: NamedDependency[Instance],
        project_id: FromPath[str],
        person_id: FromPath[str],
    ) -> ShownPerson:
        """Show a person by uuid."""
        authorize(request, instance, "person:read", project_id)
        for person in instance.people.all():
            if person.uuid == person_id:
                return _shown(person)
        raise not_found()


def _conditions(text: str | None) -> list[PropertyFilter]:
    """Read the JSON list of the parameter `properties`, all of whose filters must hold."""
    if not text:
        return []
    try:
        found = msgspec.json.decode(text, type=list[PropertyFilter])
        return [msgspec.structs.replace(one, type="person") for one in found]
    except NOT_JSON:
        raise invalid("Properties are unparsable!", "properties") from None


def _is_like(person: Person, search: str) -> bool:
    """Whether the text is in the email, the name or a distinct id, in any case."""
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
