"""What this software calls itself, in records, metrics and metadata, and the signals that end it."""

import signal

SOFTWARE_NAME = "model-sidecar"
SOFTWARE_VERSION = "0.1.0"

ENDINGS = frozenset({signal.SIGTERM, signal.SIGINT})
"""Blocked in every thread, and waited for in one: a handler would interrupt any line, perhaps one that holds a lock which
the handler wants."""
