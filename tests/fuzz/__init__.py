"""Fuzzing: every parser that reads what a peer, a file, a lab system or the command line sends."""
