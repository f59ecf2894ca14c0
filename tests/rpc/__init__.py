"""Tests of `node.rpc`."""
