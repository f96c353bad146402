"""The command line. Each command is a module that imports what it needs when it runs."""

from model_sidecar.cli.main import main

__all__ = ["main"]
