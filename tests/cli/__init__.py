"""The command line, each command without a real daemon."""
