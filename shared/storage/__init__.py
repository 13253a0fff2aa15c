"""Where encrypted objects are kept: a port, and the local folder behind it."""

from shared.storage.local import LocalFolder
from shared.storage.port import ObjectInfo, ObjectReader, ObjectStore, ObjectWriter, check_name

__all__ = ["LocalFolder", "ObjectInfo", "ObjectReader", "ObjectStore", "ObjectWriter", "check_name"]
