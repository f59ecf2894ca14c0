"""Tests against public test vectors, which are not part of the project."""
