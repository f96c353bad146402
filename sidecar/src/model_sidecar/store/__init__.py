"""The store's version directories: the only code that opens, verifies or publishes them."""
