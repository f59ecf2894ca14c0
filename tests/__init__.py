"""Tests of Labmesh; they mirror the source."""
