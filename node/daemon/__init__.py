"""The daemon: builds everything, starts it, stops it. The only place where implementations are chosen."""

from __future__ import annotations

from node.daemon.running import run

__all__ = ("run",)
