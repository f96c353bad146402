"""What was predicted, kept on the disk, and what was true of it."""
