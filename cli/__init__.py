"""The command line: talks to the local node over its socket, or works offline on the home and on files."""
