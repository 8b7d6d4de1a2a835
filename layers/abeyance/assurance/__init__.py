"""Assurance: what joins the rooms and changes none. It compares what happened with what the ledger says."""
