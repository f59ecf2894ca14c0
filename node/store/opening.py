"""What a node remembers: `Store` is the whole of it; its parts are reached by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.store import DATABASE_NAME, SEARCH_NAME
from node.store.checkpoints import CheckpointStore
from node.store.clients import ClientStore
from node.store.database import Database, require_revision
from node.store.erasures import ErasureStore
from node.store.evidence import EvidenceStore
from node.store.inspection import InspectionStore
from node.store.late import LateStore
from node.store.logs import LogStore
from node.store.losses import LossStore
from node.store.membership import MembershipStore
from node.store.rebase import RebaseStore
from node.store.records import RecordStore
from node.store.search import SearchIndex, prepare_search_file
from node.store.snapshot import require_readable
from node.store.sweep import Sweeper


@dataclass(frozen=True, slots=True)
class Store:
    """An open store."""

    database: Database
    membership: MembershipStore
    logs: LogStore
    late: LateStore
    checkpoints: CheckpointStore
    clients: ClientStore
    records: RecordStore
    erasures: ErasureStore
    search: SearchIndex
    sweeper: Sweeper
    rebase: RebaseStore
    evidence: EvidenceStore
    inspection: InspectionStore
    losses: LossStore

    def close(self) -> None:
        """Close every file."""
        self.search.close()
        self.database.close()


def create_store(home: Path) -> Store:
    """Make an empty store in a home."""
    from node.store.upgrade import migrate  # Alembic takes long to import, and only `init` and `upgrade` need it.

    path = home / DATABASE_NAME
    path.touch(mode=0o600)
    migrate(path)
    return open_store(home)


def open_store(home: Path) -> Store:
    """Open the store in a home.

    Raises:
        HomeError: it is missing, damaged, or of another version.
    """
    path, search_path = home / DATABASE_NAME, home / SEARCH_NAME
    if path.is_file():
        require_readable(path)
    require_revision(path)
    prepare_search_file(search_path, path)
    database = Database(path, attach={"search": search_path})
    logs, erasures, search = LogStore(database), ErasureStore(database), SearchIndex(database, search_path)
    return Store(
        database,
        MembershipStore(database),
        logs,
        LateStore(database),
        CheckpointStore(database),
        ClientStore(database),
        RecordStore(database),
        erasures,
        search,
        Sweeper(database, erasures, search),
        RebaseStore(database, logs),
        EvidenceStore(database),
        InspectionStore(database),
        LossStore(database),
    )
