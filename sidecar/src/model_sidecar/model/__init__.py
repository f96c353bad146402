"""Verified bytes become a loaded model with its preprocessing. Nothing outside this room imports onnxruntime."""
