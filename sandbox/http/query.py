"""`query/` (posthog/api/query.py): HogQL over the captured events."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from hogsend.contract.json_text import NOT_JSON
from sandbox.errors import invalid, parse_error
from sandbox.http.access import authorize
from sandbox.instance import Instance
from sandbox.queries.hogql import HogQLError, Row, run

AnyRequest = Request[Any, Any, Any]


class HogQLQuery(msgspec.Struct, frozen=True):
    """`query` of the body, of the only kind that is known here."""

    kind: str
    query: str
    values: dict[str, Any] = {}


class Asked(msgspec.Struct, frozen=True):
    """The body. Queries are always run at once, whatever `refresh` says."""

    query: HogQLQuery


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`HogQLQueryResponse` in posthog/schema.py, as far as it is used."""

    cache_key: str
    is_cached: bool = False
    columns: list[str]
    results: list[list[Any]]
    hogql: str
    has_more: bool = msgspec.field(name="hasMore")
    limit: int
    offset: int
    timings: list[Any] = []
    error: str | None = None


class QueryController(Controller):
    """Queries of a project."""

    path = "/query"

    @post("/", status_code=200)
    async def ask(
        self, request: AnyRequest, instance: NamedDependency[Instance], project_id: FromPath[str]
    ) -> Answer:
        """Run a HogQL query."""
        authorize(request, instance, "query:read", project_id)
        body = await request.body()
        try:
            asked = msgspec.json.decode(body, type=Asked).query
        except msgspec.ValidationError as error:
            raise invalid(str(error), "query") from None
        except NOT_JSON as error:
            raise parse_error(f"JSON parse error - {error}") from None
        if asked.kind != "HogQLQuery":
            raise invalid(f"this stand-in knows HogQLQuery only, not {asked.kind}", "query")
        rows = (
            Row(event, instance.people.find(event.distinct_id))
            for event in list(instance.pipeline.events.values())
        )
        try:
            found = run(asked.query, asked.values, rows)
        except HogQLError as error:
            raise invalid(str(error)) from None
        return Answer(
            cache_key=f"cache_{uuid.uuid4().hex}",
            columns=found.columns,
            results=found.rows,
            hogql=asked.query,
            has_more=found.more,
            limit=found.limit,
            offset=found.offset,
        )
