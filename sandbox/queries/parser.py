"""Parser of a query, for the subset of HogQL that `hogql.py` lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from sandbox.queries.expressions import (
    COMPARISONS,
    Expression,
    HogQLError,
    all_of,
    any_of,
    coalesce,
    constant,
    field,
    to_date_time,
    to_string,
    unresolved,
)

DEFAULT_LIMIT = 100
MAX_LIMIT = 50_000
"""`MAX_SELECT_RETURNED_ROWS` in posthog/hogql/constants.py."""

_TOKEN = re.compile(
    r"\s+|(?P<text>'(?:[^'\\]|\\.|'')*')|(?P<number>\d+)|\{(?P<placeholder>\w+)\}"
    r"|(?P<word>[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*)|(?P<sign><=|>=|!=|<>|==|[=<>(),*])"
)


class Query(msgspec.Struct, kw_only=True):
    """A parsed query."""

    columns: list[tuple[str, Expression | None]]
    """Name and value of each column; None as value is `count()`."""
    from_events: bool = False
    condition: Expression | None = None
    order: list[tuple[Expression, bool]] = []
    limit: int = DEFAULT_LIMIT
    offset: int = 0


class Parser:
    """Recursive descent parser of one query."""

    def __init__(self, text: str, values: Mapping[str, Any]) -> None:
        """Split `text` into tokens. `values` are the values of its placeholders.

        Raises:
            HogQLError: a part of the text is no token.
        """
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

    def query(self) -> Query:
        """Parse the whole query.

        Raises:
            HogQLError: the query is not supported.
        """
        self._expect("SELECT")
        query = Query(columns=[self._column()])
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

    def _column(self) -> tuple[str, Expression | None]:
        start = self._at
        if self._take("count"):
            self._expect("(")
            self._take("*")
            self._expect(")")
            return "count()", None
        value = self._value()
        return "".join(text for _, text in self._tokens[start : self._at]), value

    def _ordering(self) -> tuple[Expression, bool]:
        value = self._value()
        descending = self._take("DESC")
        if not descending:
            self._take("ASC")
        return value, descending

    def _disjunction(self) -> Expression:
        conditions = [self._conjunction()]
        while self._take("OR"):
            conditions.append(self._conjunction())
        return any_of(conditions)

    def _conjunction(self) -> Expression:
        conditions = [self._condition()]
        while self._take("AND"):
            conditions.append(self._condition())
        return all_of(conditions)

    def _condition(self) -> Expression:
        if self._take("("):
            condition = self._disjunction()
            self._expect(")")
            return condition
        left = self._value()
        _, sign = self._next()
        compare = COMPARISONS.get(sign)
        if compare is None:
            raise HogQLError(f"Syntax error at {sign!r}")
        right = self._value()
        return lambda row: compare(left(row), right(row))

    def _value(self) -> Expression:
        kind, text = self._next()
        if kind == "text":
            return constant(re.sub(r"\\(.)|''", lambda match: match[1] or "'", text[1:-1]))
        if kind == "number":
            return constant(int(text))
        if kind == "placeholder":
            if text not in self._values:
                raise HogQLError(f"Unresolved placeholder: {{{text}}}")
            return constant(self._values[text])
        if kind == "word" and text in {"toString", "toDateTime", "coalesce"}:
            return self._coalesce() if text == "coalesce" else self._call(text)
        return field(text) if kind == "word" else unresolved(text)

    def _call(self, name: str) -> Expression:
        self._expect("(")
        depends_on_row = self._at < len(self._tokens) and self._tokens[self._at][0] == "word"
        argument = self._value()
        self._expect(")")
        if name == "toString":
            return to_string(argument)
        return to_date_time(argument, depends_on_row=depends_on_row)

    def _coalesce(self) -> Expression:
        self._expect("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._expect(")")
        return coalesce(values)

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
