"""Tests of `node.store`."""
