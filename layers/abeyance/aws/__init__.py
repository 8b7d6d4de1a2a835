"""AWS as the rest of the system uses it: clients, tables, objects, queues, events and timestamps, once."""
