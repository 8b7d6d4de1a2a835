"""Decisions of people about the users of a tenant's own collections: found by a program, decided by people."""
