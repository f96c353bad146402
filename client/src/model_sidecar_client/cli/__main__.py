"""`python -m model_sidecar_client.cli`."""

from model_sidecar_client.cli.group import main

main(prog_name="sidecarctl")
