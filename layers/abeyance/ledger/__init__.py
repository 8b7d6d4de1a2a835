"""The proof: a hash chain of every decision, its store, and its verification.

Nothing is imported here, so that a function pays at cold start for the module that it uses and for no other.
"""
