"""Tests of `node.core`, one module for each of its modules."""
