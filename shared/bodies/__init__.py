"""What the services' events on Kafka say: a model of the body of each type.

Commands are models of the service that takes them, the instance's events those of
``shared.instance.events``. From all of them the AsyncAPI document is made.
"""
