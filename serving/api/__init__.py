"""How a route of ``/api/v1`` is declared, and the OpenAPI document that its declarations make."""

from serving.api.commands import LOCATION, accepted, command_body
from serving.api.document import serve_document
from serving.api.operation import Operation, operation, query

__all__ = [
    "LOCATION",
    "Operation",
    "accepted",
    "command_body",
    "operation",
    "query",
    "serve_document",
]
