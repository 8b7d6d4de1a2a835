"""The abeyance command. Not deployed."""
