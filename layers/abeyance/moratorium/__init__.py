"""The halt: feature flags, the pure decision over them, and the tenants they bind."""
