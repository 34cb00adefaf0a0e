-- Whether nobody else compares these windows with the ledger now.
SELECT pg_try_advisory_xact_lock(hashtext('reconcile {metrics}'), hashtext(%(exchange)s));
