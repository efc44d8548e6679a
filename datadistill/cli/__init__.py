"""`datadistill <command>`: parsing and printing. A command is a file here and a line in
`COMMANDS`."""

from datadistill.cli.dispatch import COMMANDS, main

__all__ = ["COMMANDS", "main"]
