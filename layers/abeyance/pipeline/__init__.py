"""The pipeline that a photo passes: topology, typed events, batches of messages, and one module per stage."""
