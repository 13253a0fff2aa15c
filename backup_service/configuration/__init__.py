"""What an administrator sets for good: schedule, retention, staleness, verification,
rehearsals.

Each is one setting of the instance (data: a restore sets it back), a JSON object that a model here
validates. It is changed by ``handlers/configure.py`` and by nothing else.
"""
