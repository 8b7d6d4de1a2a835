"""The accepted file formats: each reads the header and the cost of decoding, and decodes whole images only."""
