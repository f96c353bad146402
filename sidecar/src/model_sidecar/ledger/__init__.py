"""The ledger: who put which version into service, when and why. It is the truth; the active pointer is its face.

Records are appended by one atomic put-if-absent of the next generation, so two operators cannot both win and no lock
can go stale. This room knows records, their chain, a file backend and the pointer's file; it knows no models.
"""
