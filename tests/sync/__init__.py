"""Tests of `node.sync`."""
