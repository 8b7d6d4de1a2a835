"""Pixels to faces to templates: decoding, detection, alignment, embedding, quality. Knows nothing of AWS."""
