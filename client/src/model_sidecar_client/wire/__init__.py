"""The wire: message classes and method tables of the protocols that client and sidecar speak."""
