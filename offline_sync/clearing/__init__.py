"""The operator's side: intake, verification, ledger, disputes, settlement, HTTP."""
