"""The one composition root: settings from the environment, and the object graph of every deployed unit."""
