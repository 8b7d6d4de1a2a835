"""Moving in and out: collections exported, imported, and read from Amazon Rekognition.

Everything here is a client of the Rekognition API with a tenant's own credentials: each step is decided by the
deployment's moratoria and is on its ledger, as for any other program.
"""
