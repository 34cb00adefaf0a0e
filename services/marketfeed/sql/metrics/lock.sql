-- One transaction at a time writes a venue's windows of one table: flags are made of neighbouring windows, and what is
-- compared with the ledger must not change meanwhile.
SELECT pg_advisory_xact_lock(hashtext('{metrics}'), hashtext(%(exchange)s));
