"""A handled failure is counted and logged, or listed here with the reason why it is not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

ROOT = Path(__file__).parents[3]
FAILURES = {
    *("HogsendError", "Unavailable", "Forbidden", "PostHogError", "Exception", "OSError"),
    *("UNREACHABLE", "ConsumerGone", "PostgresError", "TooLarge"),
}
"""Errors of external dependencies. Errors about invalid input, such as JSON, are not included."""

NEITHER: dict[str, str] = {
    "hogsend.service.audit:_resource": "the request was refused with the same error",
    "hogsend.service.bus_health:_server_info": "it is skipped; the connection reports it",
    "hogsend.service.health:check_database": "the returned health reports it",
    "hogsend.service.postgres_connection:close": "the work is done; the connection is cut",
    "hogsend.service.process_end:end_process": "the process ends, and its streams are closed",
    "hogsend.service.settings.base:_raw_value": "the service names the file, and exits",
    "hogsend.service.settings.base:get_field_value": "the service names the file, and exits",
    "services.gateway.console.connecting:begin": "the answer says it",
    "services.gateway.listener:_raise_descriptor_limit": "the caller says how far it went",
    "services.gateway.notices.outbox:close": "the process ends",
    "services.gateway.webhooks.deliveries:wrapped": "raised again by the route",
    "services.gateway.webhooks.spool.directory:_prepare": "raised as `CannotStart`",
    "services.gateway.webhooks.spool.file:is_in_place": "the answer says it",
    "services.gateway.webhooks.spool.file:mark_published": "returned, and said once",
    "services.gateway.webhooks.spool.sqlite_spool:find": "reading the directory says it",
    "services.gateway.webhooks.spool.partial_files:remove_partial_files": "nothing is in them",
    "services.ingest.event_table.partitions:drop_old": "raised when the others are tried",
    "services.ingest.partitions.partition:_stop": "it stops, or begins anew",
    "services.ingest.partitions.partition:run": "it ends; another replica goes on",
    "services.ingest.shared_account:warn_of_shared_account": "it says which account it is",
    "services.provisioner.backfill.runner:_record": "counted as rejected behind it, and logged",
    "services.provisioner.diagnosis.diagnostics:_ask_posthog": "the answer says it",
    "services.provisioner.diagnosis.diagnostics:_check_reads": "the answer says it",
    "services.provisioner.diagnosis.diagnostics:_probe_destination": "the answer says it",
    "services.provisioner.diagnosis.missing_project:_read": "the first error is the answer then",
}
"""Functions that handle a failure without counting or logging it, with the reason."""


def _silent() -> Iterator[str]:
    for folder in ("services", "shared/hogsend/service"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            module = str(file.relative_to(ROOT).with_suffix("")).removeprefix("shared/")
            for function in _swallowing(file.read_text()):
                yield f"{module.replace('/', '.')}:{function}"


def _swallowing(code: str) -> Iterator[str]:
    """Yield functions that handle a failure without raising it or both counting and logging it."""
    tree = ast.parse(code)
    every = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    functions = {function.name: function for function in every}
    for function in every:
        for node in _own(function):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                caught, body = node.type, node.body
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                caught, body = node, []
            else:
                continue
            if not FAILURES & _names(caught) or any(
                isinstance(inner, ast.Raise) for one in body for inner in ast.walk(one)
            ):
                continue
            # A function that the handler calls may count and log the failure.
            names = {name for one in body for name in _names(one)}
            for called in names & functions.keys():
                names |= _names(functions[called])
            if not {"inc", "log"} <= names:
                yield function.name


def _own(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of nested functions."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(node))


def _names(node: ast.AST) -> set[str]:
    return {
        inner.id if isinstance(inner, ast.Name) else inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name | ast.Attribute)
    }


def test_a_failure_that_is_handled_is_counted_and_logged() -> None:
    assert sorted(_silent()) == sorted(NEITHER)


def test_a_failure_that_is_swallowed_is_found() -> None:
    code = "def f():\n try: g()\n except Unavailable as error:\n  {}"
    assert list(_swallowing(code.format("return None"))) == ["f"]
    assert list(_swallowing(code.format("FAILURES.labels('f').inc()"))) == ["f"]
    assert list(_swallowing(code.format("log.debug('f')"))) == ["f"]
    assert list(_swallowing("def f():\n with suppress(*UNREACHABLE): g()")) == ["f"]
    assert not list(_swallowing(code.format("FAILURES.inc(); log.debug('f')")))
    assert not list(_swallowing(code.format("raise")))
    report = "\ndef report(error): FAILURES.inc(); log.debug(error)"
    assert not list(_swallowing(code.format("report(error)") + report))
