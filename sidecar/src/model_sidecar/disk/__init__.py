"""The store's file system: the only code of `ledger` and `store` that calls it, and what its errors mean."""
