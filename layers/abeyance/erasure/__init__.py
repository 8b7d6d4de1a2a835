"""Erasure of a person by intent: written down first, worked off step by step, verified, and only then receipted."""
