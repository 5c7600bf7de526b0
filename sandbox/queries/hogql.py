"""A small subset of HogQL (posthog/hogql): a SELECT over `events` with WHERE and ORDER BY.

Supported are columns, properties of events, strings, numbers, placeholders, `toString`,
`toDateTime`, `coalesce` and `count()`; comparisons with AND, OR and parentheses; ORDER BY, LIMIT
and OFFSET. Other queries are refused, as PostHog refuses queries that it cannot parse.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeAlias

import msgspec

from sandbox.ingestion.events import CapturedEvent
from sandbox.ingestion.people import Person

DEFAULT_LIMIT = 100
MAX_LIMIT = 50_000
"""`MAX_SELECT_RETURNED_ROWS` in posthog/hogql/constants.py."""


class Row(NamedTuple):
    """An event and its person."""

    event: CapturedEvent
    person: Person | None


Value: TypeAlias = Callable[[Row], Any]

_TOKEN = re.compile(
    r"\s+|(?P<text>'(?:[^'\\]|\\.|'')*')|(?P<number>\d+)|\{(?P<placeholder>\w+)\}"
    r"|(?P<word>[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*)|(?P<sign><=|>=|!=|<>|==|[=<>(),*])"
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COLUMNS: dict[str, Value] = {
    "uuid": lambda row: row.event.uuid,
    "event": lambda row: row.event.event,
    "distinct_id": lambda row: row.event.distinct_id,
    "timestamp": lambda row: datetime.fromisoformat(row.event.timestamp),
    "properties": lambda row: msgspec.json.encode(row.event.properties).decode(),
    "person.properties": lambda row: msgspec.json.encode(
        row.person.properties if row.person else {}
    ).decode(),
}


_PROPERTY = "properties."


class HogQLError(Exception):
    """The query cannot be parsed or run. The message states where."""


class Result(msgspec.Struct, frozen=True):
    """The rows of a query, up to its limit."""

    columns: list[str]
    rows: list[list[Any]]
    limit: int
    offset: int
    has_more: bool


class _Query(msgspec.Struct, kw_only=True):
    columns: list[tuple[str, Value | None]]
    """Name and value of each column; None as value is `count()`."""
    from_events: bool = False
    condition: Value | None = None
    order: list[tuple[Value, bool]] = []
    limit: int = DEFAULT_LIMIT
    offset: int = 0


def run(text: str, values: Mapping[str, Any], rows: Iterable[Row]) -> Result:
    """Run a query over `rows`. `values` are the values of its placeholders.

    Raises:
        HogQLError: the query is not supported.
    """
    query = _Parser(text, values).query()
    try:
        matching = [row for row in rows if query.condition is None or query.condition(row)]
        if any(value is None for _, value in query.columns):
            results = [[len(matching) for _ in query.columns]]
        else:
            if not query.from_events:
                matching = [Row(_NO_EVENT, None)]
            for value, descending in reversed(query.order):
                matching.sort(key=value, reverse=descending)
            page = matching[query.offset : query.offset + query.limit + 1]
            results = [[_output(value(row)) for _, value in query.columns if value] for row in page]
    except (TypeError, ValueError) as error:
        raise HogQLError(f"Illegal types of arguments: {error}") from None
    return Result(
        columns=[name for name, _ in query.columns],
        rows=results[: query.limit],
        limit=query.limit,
        offset=query.offset,
        has_more=len(results) > query.limit,
    )


def _output(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _text(value: Any) -> str | None:
    """The text of a value in ClickHouse's format; NULL stays NULL."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _property(name: str, row: Row) -> Any:
    """A property of the event, always as text, like PostHog's properties without a defined type."""
    return _text(row.event.properties.get(name))


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class _Parser:
    """Recursive descent parser of one query."""

    def __init__(self, text: str, values: Mapping[str, Any]) -> None:
        self._values = values
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise HogQLError(f"Syntax error at {text[position : position + 20]!r}")
            if match.lastgroup:
                self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._at = 0

    def query(self) -> _Query:
        """Parse the whole query."""
        self._expect("SELECT")
        query = _Query(columns=[self._column()])
        while self._take(","):
            query.columns.append(self._column())
        if self._take("FROM"):
            if self._next() != ("word", "events"):
                raise HogQLError("Unknown table: only events is known here")
            query.from_events = True
        if self._take("WHERE"):
            query.condition = self._disjunction()
        if self._take("ORDER"):
            self._expect("BY")
            query.order.append(self._ordering())
            while self._take(","):
                query.order.append(self._ordering())
        if self._take("LIMIT"):
            query.limit = min(self._number(), MAX_LIMIT)
        if self._take("OFFSET"):
            query.offset = self._number()
        if self._at < len(self._tokens):
            raise HogQLError(f"Syntax error at {self._tokens[self._at][1]!r}")
        return query

    def _column(self) -> tuple[str, Value | None]:
        start = self._at
        if self._take("count"):
            self._expect("(")
            self._take("*")
            self._expect(")")
            return "count()", None
        value = self._value()
        return "".join(text for _, text in self._tokens[start : self._at]), value

    def _ordering(self) -> tuple[Value, bool]:
        value = self._value()
        descending = self._take("DESC")
        if not descending:
            self._take("ASC")
        return value, descending

    def _disjunction(self) -> Value:
        parts = [self._conjunction()]
        while self._take("OR"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _conjunction(self) -> Value:
        parts = [self._condition()]
        while self._take("AND"):
            parts.append(self._condition())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _condition(self) -> Value:
        if self._take("("):
            condition = self._disjunction()
            self._expect(")")
            return condition
        left = self._value()
        _, sign = self._next()
        compare = _COMPARISONS.get(sign)
        if compare is None:
            raise HogQLError(f"Syntax error at {sign!r}")
        right = self._value()
        return lambda row: compare(left(row), right(row))

    def _value(self) -> Value:
        kind, text = self._next()
        if kind == "text":
            return _constant(re.sub(r"\\(.)|''", lambda match: match[1] or "'", text[1:-1]))
        if kind == "number":
            return _constant(int(text))
        if kind == "placeholder":
            if text not in self._values:
                raise HogQLError(f"Unresolved placeholder: {{{text}}}")
            return _constant(self._values[text])
        if kind == "word" and text in {"toString", "toDateTime", "coalesce"}:
            return self._coalesce() if text == "coalesce" else self._call(text)
        return _field(text) if kind == "word" else _unresolved(text)

    def _call(self, name: str) -> Value:
        self._expect("(")
        depends_on_row = self._at < len(self._tokens) and self._tokens[self._at][0] == "word"
        argument = self._value()
        self._expect(")")
        if name == "toString":
            return lambda row: _text(_output(argument(row)))
        if depends_on_row:
            return lambda row: _moment(argument(row))
        # A constant is parsed once, not for every row.
        return _constant(_moment_of(argument))

    def _coalesce(self) -> Value:
        self._expect("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._expect(")")
        return lambda row: next(
            (result for value in values if (result := value(row)) is not None), None
        )

    def _number(self) -> int:
        kind, text = self._next()
        if kind != "number":
            raise HogQLError(f"Syntax error at {text!r}")
        return int(text)

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise HogQLError("Syntax error at the end of the query")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, text: str) -> bool:
        if self._at < len(self._tokens):
            kind, token = self._tokens[self._at]
            if kind in {"word", "sign"} and token.upper() == text.upper():
                self._at += 1
                return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            token = self._tokens[self._at][1] if self._at < len(self._tokens) else "the end"
            raise HogQLError(f"Syntax error at {token!r}: expected {text}")


_NO_EVENT = CapturedEvent(uuid="", event="", distinct_id="", properties={}, timestamp="")


def _field(name: str) -> Value:
    if name in _COLUMNS:
        return _COLUMNS[name]
    if name.startswith(_PROPERTY):
        return partial(_property, name.removeprefix(_PROPERTY))
    return _unresolved(name)


def _unresolved(text: str) -> NoReturn:
    raise HogQLError(f"Unable to resolve field: {text}")


def _moment_of(constant: Value) -> datetime:
    try:
        return _moment(constant(Row(_NO_EVENT, None)))
    except ValueError as error:
        raise HogQLError(f"Cannot parse datetime: {error}") from None


def _constant(value: Any) -> Value:
    return lambda _row: value
