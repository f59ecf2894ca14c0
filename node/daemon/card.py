"""Put what the settings say into the next own card, as soon as no card of its `seq` can have been signed before.

A restored or rolled-back home does not know the cards that it signed later: another one of the same `seq` would be proof
against its member for good. So the home serves with the card it has until it is confirmed; whoever tells what it holds of
our log has given its newer cards in the same contact.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from node.config import Settings
from node.confirmation import Confirmation
from node.errors import LabmeshError
from node.identity import is_identity_pending
from node.keyfiles import KeyFiles
from node.membership import Membership

logger = logging.getLogger(__name__)

LOOK_S = 5.0


class OwnCard:
    """Keeps the own card at what the settings say."""

    def __init__(
        self,
        membership: Membership,
        confirmation: Confirmation,
        settings: Settings,
        *,
        files: KeyFiles,
        on_alarm: Callable[[str], None],
    ) -> None:
        """Refuse settings that no card can hold; nothing is signed yet.

        Raises:
            ConfigError: the name, the region or the addresses cannot stand in a card.
        """
        self._membership, self._confirmation, self._files, self._on_alarm = membership, confirmation, files, on_alarm
        self._name, self._region, self._endpoints = settings.name, settings.region, settings.address
        self._work = asyncio.Event()
        membership.require_presentable(name=self._name, region=self._region, endpoints=self._endpoints)

    def notice(self) -> None:
        """Look soon: the home may be confirmed now. Call it on the event loop."""
        self._work.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._work.clear()
            await asyncio.to_thread(self.reissue)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._work.wait()

    def reissue(self) -> bool:
        """Sign the next card if the settings say something new and this home may sign; returns whether it did.

        While an identity key waits for the council, the card that names it has the next `seq` already.
        """
        if not self._confirmation.confirmed or is_identity_pending(self._files):
            return False
        try:
            issued = self._membership.reissue_card(
                name=self._name,
                region=self._region,
                endpoints=self._endpoints,
                leap=self._confirmation.presumed,
            )
        except LabmeshError as error:
            self._on_alarm(f"the card cannot say what the settings say: {error.message}")
            return False
        if issued:
            logger.info("event=card_reissued seq=%d", self._membership.own_card[1].seq)
        return issued
