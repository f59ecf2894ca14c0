"""Tests of whole nodes: real processes, real sockets, real files."""
