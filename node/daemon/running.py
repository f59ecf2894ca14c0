"""Start and stop of the daemon's process."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

from node.clock import utc_now
from node.config import Settings
from node.core.card import parse_card
from node.daemon.building import Daemon
from node.home import Home
from node.identity import settle_identity
from node.keyfiles import settle_keys
from node.store import Store

logger = logging.getLogger(__name__)

GRACE_S = 2.0


def run(path: Path, passphrase: bytes | None = None) -> None:
    """Run the daemon of the home at `path` until SIGTERM or SIGINT; prints `ready` on stdout when it serves.

    Args:
        path: the home.
        passphrase: opens the private keys where they are protected.

    Raises:
        HomeError: there is no home, it is of another version or open to others, its keys cannot be opened, or another
            daemon uses it.
        ConfigError: the settings are wrong, or an address cannot be had.
    """
    home = Home(path)
    home.require()
    home.require_private()
    settings = home.load_settings()
    _configure_logging(settings.log_level)
    _configure_garbage_collection()
    with home.lock():
        store = home.open_store()
        try:
            asyncio.run(_serve(home, settings, store, passphrase))
        finally:
            store.close()
            home.socket_path.unlink(missing_ok=True)


async def _serve(home: Home, settings: Settings, store: Store, passphrase: bytes | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    identity = store.membership.load_identity()
    _settle_keys(home, store, passphrase)
    keys = home.load_keys(identity.member, identity.alliance, passphrase)
    daemon = Daemon(home, settings, store, keys, clock=utc_now, loop=loop, passphrase=passphrase)
    for role in daemon.rotation.lost_roles():
        logger.warning("event=key_lost role=%s", role)
    if daemon.rotation.renew_checkpoints():
        logger.warning("event=checkpoints_renewed")
    servers = await daemon.start_servers(home)
    daemon.cosigner.offer_all()
    lasting = [
        asyncio.create_task(daemon.peers.run(), name="peers"),
        asyncio.create_task(daemon.indexing.run(), name="index"),
        asyncio.create_task(daemon.sweeping.run(), name="sweep"),
        asyncio.create_task(daemon.thinning.run(), name="thin"),
        asyncio.create_task(daemon.judging.run(), name="judge"),
    ]
    lasting.append(asyncio.create_task(daemon.advance_tls(), name="tls"))
    lasting.append(asyncio.create_task(daemon.card.run(), name="card"))
    passing = asyncio.create_task(daemon.revalidate(), name="revalidate")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    if daemon.membership.alliance is None:
        logger.warning("event=no_alliance next='labmesh roster create' or='labmesh join FILE'")
    print("ready", flush=True)
    size = daemon.ledger.log.head_size
    logger.info("event=ready member=%s port=%d remote=%d size=%d", identity.member, servers.port, servers.remote_port, size)
    try:
        await asyncio.wait([stopping, *lasting], return_when=asyncio.FIRST_COMPLETED)
        logger.info("event=stopping")
        for task in lasting:
            if task.done():
                task.result()  # a part that ended by itself has failed: end with its error, so that somebody notices
    finally:
        await servers.stop(GRACE_S)
        stopping.cancel()
        for task in (*lasting, passing):
            task.cancel()
        await asyncio.gather(*lasting, passing, return_exceptions=True)
        await daemon.cosigner.close()


def _settle_keys(home: Home, store: Store, passphrase: bytes | None) -> None:
    """Finish or undo a change of a key that a crash cut off."""
    raw = store.membership.load_own_card(store.membership.load_identity().member)
    if raw is not None:
        card = parse_card(raw)[1]
        for done in settle_keys(home.key_files(passphrase), card):
            logger.warning("event=keys_settled what=%r", done)
        if settle_identity(home.key_files(passphrase), card):
            logger.warning("event=identity_key_replaced")


def _configure_garbage_collection() -> None:
    """Collect rarely: pages make millions of short-lived objects without cycles, and each collection walks them all."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
        force=True,
    )
