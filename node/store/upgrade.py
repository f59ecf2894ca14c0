"""Schema migrations with Alembic: a new home is migrated from nothing, an older one from where it is."""

from __future__ import annotations

import time
from pathlib import Path

from alembic import command
from alembic.config import Config

from node.errors import MAKE_HOME, HomeError
from node.store.database import SCHEMA_REVISION, Database, read_revision
from node.store.snapshot import require_readable

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(path: Path, *, migrations: Path = MIGRATIONS) -> None:
    """Bring the database file at `path` to the newest schema, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    database = Database(path)
    try:
        with database.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        database.close()


def upgrade(path: Path, backups: Path, *, migrations: Path = MIGRATIONS, revision: str = SCHEMA_REVISION) -> Path | None:
    """Back the database up into `backups` and migrate it; returns the backup, or None when nothing was to do.

    Raises:
        HomeError: there is no database, it is damaged, or it was made by a newer version.
    """
    if not path.is_file():
        raise HomeError(
            f"there is no database {path}",
            hint=MAKE_HOME,
        )
    require_readable(path)
    found = read_revision(path)
    if found == revision:
        return None
    if found is not None and found > revision:
        raise HomeError(f"{path} was made by a newer Labmesh (schema {found}; this one knows {revision})")
    backups.mkdir(mode=0o700, exist_ok=True)
    target = backups / f"labmesh-{found or 'none'}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.sqlite"
    database = Database(path)
    try:
        database.backup(target)
    finally:
        database.close()
    target.chmod(0o600)
    migrate(path, migrations=migrations)
    return target
