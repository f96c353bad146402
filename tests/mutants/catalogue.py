"""Every known mutant. Where a test is made for a bug that got through, the bug belongs here."""

from __future__ import annotations

from mutants import in_ledger, in_model, in_monitor, in_release, in_rpc, in_serving, in_store, in_trial

MUTANTS = (
    *in_ledger.MUTANTS,
    *in_store.MUTANTS,
    *in_release.MUTANTS,
    *in_model.MUTANTS,
    *in_trial.MUTANTS,
    *in_monitor.MUTANTS,
    *in_serving.MUTANTS,
    *in_rpc.MUTANTS,
)
