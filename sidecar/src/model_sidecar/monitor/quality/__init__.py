"""How well versions predict, by what was true."""
