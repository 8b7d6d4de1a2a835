"""The model manifest, and how a model gets onto this machine: fetched, verified, converted, stored."""
