"""What is wanted, what is live, and the one thread that makes the second follow the first."""
