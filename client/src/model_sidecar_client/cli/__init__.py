"""`sidecarctl`: deploy, roll back, look and predict from a shell.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 the wait timed out (an action goes on), 4 verification failed,
5 conflict, 6 --fail-on is met, 7 not reachable, 130 interrupted. Data go to stdout, words to stderr.

gRPC and the client are imported inside the commands, so that `--help` and a usage error come at once.
"""

from model_sidecar_client.cli.group import main

__all__ = ["main"]
