"""Which tick of the backups' schedule is taken, by whom, and what changes cause."""
