"""The rules of the fold: one function for each event type."""
