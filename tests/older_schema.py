"""Creates a service's schema as an earlier version of the service did."""

from __future__ import annotations

import shutil
from pathlib import Path

from hogsend.service.migrations import migrate
from hogsend.service.postgres_address import PostgresAddress


async def migrate_to(url: str, schema: str, migrations: Path, number: int, directory: Path) -> None:
    """Apply the first `number` of `migrations`, from a copy below `directory`."""
    older = directory / f"{schema}-{number}"
    _copy_first(number, migrations, older)
    await migrate(PostgresAddress.parse(url), schema, older)


def _copy_first(number: int, migrations: Path, directory: Path) -> None:
    directory.mkdir()
    for file in sorted(migrations.glob("*.sql"))[:number]:
        shutil.copy(file, directory)
