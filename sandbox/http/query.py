"""Route `query/` (posthog/api/query.py), which runs HogQL over the captured events."""

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
from sandbox.queries.expressions import HogQLError, Row
from sandbox.queries.hogql import run

AnyRequest = Request[Any, Any, Any]


class HogQLQuery(msgspec.Struct, frozen=True):
    """`query` of the body. The sandbox supports only this kind of query."""

    kind: str
    query: str
    values: dict[str, Any] = {}


class QueryRequest(msgspec.Struct, frozen=True):
    """The body. `refresh` is ignored: every query is run at once."""

    query: HogQLQuery


class QueryResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The used fields of `HogQLQueryResponse` in posthog/schema.py."""

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
    async def run_query(
        self, request: AnyRequest, instance: NamedDependency[Instance], project_id: FromPath[str]
    ) -> QueryResponse:
        """Run a HogQL query."""
        authorize(request, instance, "query:read", project_id)
        body = await request.body()
        try:
            query = msgspec.json.decode(body, type=QueryRequest).query
        except msgspec.ValidationError as error:
            raise invalid(str(error), "query") from None
        except NOT_JSON as error:
            raise parse_error(f"JSON parse error - {error}") from None
        if query.kind != "HogQLQuery":
            raise invalid(f"this stand-in knows HogQLQuery only, not {query.kind}", "query")
        rows = (
            Row(event, instance.people.find(event.distinct_id))
            for event in list(instance.pipeline.events.values())
        )
        try:
            result = run(query.query, query.values, rows)
        except HogQLError as error:
            raise invalid(str(error)) from None
        return QueryResponse(
            cache_key=f"cache_{uuid.uuid4().hex}",
            columns=result.columns,
            results=result.rows,
            hogql=query.query,
            has_more=result.has_more,
            limit=result.limit,
            offset=result.offset,
        )
