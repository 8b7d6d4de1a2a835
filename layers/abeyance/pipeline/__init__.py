"""The way of a photo through the system: topology, typed events, and one module per stage."""
