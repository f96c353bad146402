"""What the sidecar lets others see: metrics, logs, and read-only pages over HTTP."""
