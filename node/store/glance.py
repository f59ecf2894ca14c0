"""What a home holds of its alliance, read without the database library, whose loading takes longer than a verification."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from node.core.alliance import Alliance, load_alliance
from node.errors import MAKE_HOME, FormatError, GovernanceError, HomeError, SignatureError

logger = logging.getLogger(__name__)


def read_alliance(path: Path) -> Alliance | None:
    """The alliance in a home's database, verified again; None before it is joined.

    Args:
        path: the database file.

    Raises:
        HomeError: it is missing, unreadable, or not a node's.
        GovernanceError: the chain of rosters in it does not hold.
        FormatError: a roster in it is none.
    """
    if not path.is_file():
        raise HomeError(
            f"{path.parent} is not the home of a node",
            hint=f"{MAKE_HOME}; or name another home",
        )
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True, timeout=10)) as connection:
            pin = connection.execute("SELECT fingerprint FROM node").fetchone()
            rosters = [row[0] for row in connection.execute("SELECT envelope FROM roster ORDER BY version")]
            cards = [row[0] for row in connection.execute("SELECT envelope FROM card ORDER BY member, seq")]
    except sqlite3.DatabaseError as error:
        raise HomeError(f"{path} cannot be read: {error}", hint="type: labmesh doctor") from error
    return assemble_alliance(rosters, cards, pin[0] if pin else None) if rosters else None


def assemble_alliance(rosters: Iterable[bytes], cards: Iterable[bytes], fingerprint: str | None) -> Alliance:
    """Verify stored rosters, and take the stored cards that hold under the newest. One bad card costs only itself.

    Whose key is whose was judged when each card came, and is not judged again in the order of their members.

    Raises:
        GovernanceError: the chain does not hold, or does not reach the pinned fingerprint.
        FormatError: a roster is none.
    """
    alliance = load_alliance(rosters, fingerprint=fingerprint)
    for raw in cards:
        try:
            alliance = alliance.accept_card(raw, judged=True)
        except (FormatError, SignatureError, GovernanceError) as error:
            # For example signed by an identity key that a later roster replaced.
            logger.warning("event=card_left_out error=%r", error.message)
    return alliance
