"""What an instance is: a pure fold over its log, written from the design and not from the product.

    model = Model(log=(cluster_id, topic_id))
    for logged in history:               # LoggedEvent, or anything with the same attributes
        model.apply(logged.offset, logged)
    differences(model.tables(), read_tables(conn))       # [] when the store is what it has to be

No batches, no working set, no database: dicts, one event after another. It imports nothing of the
product but the shapes of the events.
"""

from tests.model.compare import differences, read_tables, without_place
from tests.model.log import Model, SourceUnknown
from tests.model.rulebook import Logged
from tests.model.state import KEYS, Refused, Row, State, Tables

__all__ = [
    "KEYS",
    "Logged",
    "Model",
    "Refused",
    "Row",
    "SourceUnknown",
    "State",
    "Tables",
    "differences",
    "read_tables",
    "without_place",
]
