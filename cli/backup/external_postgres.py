"""Restore of a dump into an external PostgreSQL of any version.

`pg_restore` converts the dump to a script, and `psql` runs it. `pg_restore` of PostgreSQL 17 or
newer cannot restore into an older server directly: it starts with a setting that the older server
does not know.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from cli.backup.postgres_tools import connection_arguments, find_tool, tool_failure

READER, WRITER = "pg_restore", "psql"
_READ = ("--file=-", "--single-transaction", "--no-owner", "--no-privileges")
"""Options of pg_restore. The server need not have the services' roles, so owners are left out.

The transaction is part of the script, and the script commits it. With psql's own option
`--single-transaction`, psql would commit a script that is cut off in the middle.
"""
_WRITE = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-")
_SET_TIMEOUT = b"SET transaction_timeout = 0;\n"
_SET_TIMEOUT_IF_KNOWN = (
    b"SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
    b" WHERE name = 'transaction_timeout';\n"
)
_CHUNK_BYTES = 1024 * 1024


def restore(dump: Path, url: str) -> None:
    """Load a dump in one transaction; the role in `url` owns everything.

    Raises:
        CommandError: a tool is not installed, or fails.
    """
    database, variables = connection_arguments(url)
    reading, writing = (
        [find_tool(READER), *_READ, str(dump)],
        [find_tool(WRITER), *_WRITE, database],
    )
    with tempfile.TemporaryFile() as reader_errors, tempfile.TemporaryFile() as writer_errors:
        reader = subprocess.Popen(reading, stdout=subprocess.PIPE, stderr=reader_errors)
        writer = subprocess.Popen(
            writing,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=writer_errors,
        )
        try:
            _pipe(reader, writer)
        finally:
            for process in (writer, reader):
                process.kill()
                process.wait()
        # psql first: it names the cause, while pg_restore only reports a closed pipe.
        for program, process, errors in (
            (WRITER, writer, writer_errors),
            (READER, reader, reader_errors),
        ):
            if process.returncode > 0:
                errors.seek(0)
                raise tool_failure(program, errors.read().decode(errors="replace"))
        if reader.returncode or writer.returncode:
            raise tool_failure(WRITER, "it was killed")


def for_any_version(script: IO[bytes]) -> Iterator[bytes]:
    """Yield the script, with `transaction_timeout` set only on servers that know it."""
    for line in script:
        if line == _SET_TIMEOUT:
            yield _SET_TIMEOUT_IF_KNOWN
            break
        yield line
    while chunk := script.read(_CHUNK_BYTES):
        yield chunk


def _pipe(reader: subprocess.Popen[bytes], writer: subprocess.Popen[bytes]) -> None:
    """Pass the reader's output to the writer, and wait for both."""
    script, sink = cast("IO[bytes]", reader.stdout), cast("IO[bytes]", writer.stdin)
    with suppress(BrokenPipeError):
        for chunk in for_any_version(script):
            sink.write(chunk)
        sink.flush()
    script.close()
    if reader.wait():
        # Otherwise psql would fail in the middle of a row, and its error hide the cause.
        writer.kill()
    with suppress(BrokenPipeError):
        sink.close()
    writer.wait()
