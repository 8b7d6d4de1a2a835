"""The proof: a hash chain of every decision, its store, and its verification."""
