"""Chips to templates: the port, the wire format, and the clients in this process, over HTTP and over SageMaker."""
