"""What every store must do: one class, run on each implementation."""

from __future__ import annotations

from tests.store.contract.home import MembershipContract, MistakesContract
from tests.store.contract.logs import OwnLogContract, StagingContract, TreeContract
from tests.store.contract.pages import CheckpointsContract, PagesContract
from tests.store.contract.records import RecordsContract, SearchContract


class TestStore(
    OwnLogContract,
    TreeContract,
    StagingContract,
    PagesContract,
    CheckpointsContract,
    RecordsContract,
    SearchContract,
    MembershipContract,
    MistakesContract,
):
    """The whole contract; `opened` in conftest.py names the implementations."""
