"""Retention: which backups are kept, which are purged, and by which rule; nothing but reckoning."""
