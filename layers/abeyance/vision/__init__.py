"""Pixels to analysed faces: decoding, detection, alignment, quality, attributes. Imports nothing of AWS."""
