"""The pipeline as queues and servers: how many photos it takes, how long they wait, and what stops it first."""
