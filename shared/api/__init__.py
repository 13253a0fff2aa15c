"""What the services answer over HTTP: one type a document, for them and for their client.

Each is a ``TypedDict``: a JSON object as it came over the wire, whose fields a type checker knows
and which pydantic can check. What is not in it yet, in this state, is left out.
"""
