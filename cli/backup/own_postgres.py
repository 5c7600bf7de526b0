"""A dump loaded into a PostgreSQL of the operator's own, of whatever version.

`pg_restore` makes a script of the dump, and `psql` runs it. By itself `pg_restore` of PostgreSQL 17
or newer ends at a server that is older: it begins with a setting that this one does not know.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from cli.backup.postgres_tools import access, failed, found

READER, WRITER = "pg_restore", "psql"
_READ = ("--file=-", "--single-transaction", "--no-owner", "--no-privileges")
"""The server need not have a role for each service. The script begins a transaction and commits it
at its end. `psql` takes one that is cut off for the end of it, and with this option of its own it
would commit the half.
"""
_WRITE = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-")
_NO_TIME_LIMIT = b"SET transaction_timeout = 0;\n"
_WHERE_IT_IS_KNOWN = (
    b"SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
    b" WHERE name = 'transaction_timeout';\n"
)
_PART_BYTES = 1024 * 1024


def restore(dump: Path, url: str) -> None:
    """Load a dump, all of it or nothing; one role owns everything.

    Raises:
        CommandError: a tool is not installed, or fails.
    """
    database, variables = access(url)
    reading, writing = [found(READER), *_READ, str(dump)], [found(WRITER), *_WRITE, database]
    with tempfile.TemporaryFile() as reader_said, tempfile.TemporaryFile() as writer_said:
        read = subprocess.Popen(reading, stdout=subprocess.PIPE, stderr=reader_said)
        written = subprocess.Popen(
            writing,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=writer_said,
        )
        try:
            _pass_on(read, written)
        finally:
            for process in (written, read):
                process.kill()
                process.wait()
        # psql names the cause; pg_restore, that its output was not read to the end.
        for program, process, said in ((WRITER, written, writer_said), (READER, read, reader_said)):
            if process.returncode > 0:
                said.seek(0)
                raise failed(program, said.read().decode(errors="replace"))
        if read.returncode or written.returncode:
            raise failed(WRITER, "it was killed")


def for_any_version(script: IO[bytes]) -> Iterator[bytes]:
    """The script without what only some versions know."""
    for line in script:
        if line == _NO_TIME_LIMIT:
            yield _WHERE_IT_IS_KNOWN
            break
        yield line
    while part := script.read(_PART_BYTES):
        yield part


def _pass_on(read: subprocess.Popen[bytes], written: subprocess.Popen[bytes]) -> None:
    """Give one program's output to the other, and wait for both."""
    script, taken = cast("IO[bytes]", read.stdout), cast("IO[bytes]", written.stdin)
    with suppress(BrokenPipeError):
        for part in for_any_version(script):
            taken.write(part)
        taken.flush()
    script.close()
    if read.wait():
        # Else psql would fail too, at half a row, and be taken for the cause.
        written.kill()
    with suppress(BrokenPipeError):
        taken.close()
    written.wait()
