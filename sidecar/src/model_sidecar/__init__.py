"""A sidecar that serves one verified version of a model, swaps it without losing a request, and can go back."""
