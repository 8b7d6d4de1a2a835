"""The proof: a transparency log of every decision, its writers and witnesses, and its verification.

Nothing is imported here, so that a function pays at cold start for the module that it uses and for no other.
"""
