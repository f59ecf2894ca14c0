"""One module a command, imported only when that command is typed. Each has its click command under the name `command`."""
