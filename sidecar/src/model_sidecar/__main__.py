"""`python -m model_sidecar`."""

from model_sidecar.cli import main

main()
