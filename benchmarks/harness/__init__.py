"""What the benchmarks share: figures, rounds, load from outside, servers to put beside one another, and the page."""
