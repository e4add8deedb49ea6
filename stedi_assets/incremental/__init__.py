"""What is out of date, what to run next, and the ledger that both follow from."""
