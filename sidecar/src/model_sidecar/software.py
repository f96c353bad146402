"""What this software calls itself, in records, metrics and metadata."""

SOFTWARE_NAME = "model-sidecar"
SOFTWARE_VERSION = "0.1.0"
