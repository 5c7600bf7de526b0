"""Routes below `persons/` (posthog/api/person.py), read-only."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from sandbox.errors import invalid, not_found
from sandbox.functions.filters import PropertyFilter, holds
from sandbox.http.access import authorize
from sandbox.http.pagination import Page, paginate
from sandbox.ingestion.people import Person
from sandbox.instance import Instance

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
    except msgspec.DecodeError:
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
