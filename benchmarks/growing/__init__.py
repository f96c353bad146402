"""What grows with use, and whether its cost does."""
