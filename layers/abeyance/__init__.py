"""Abeyance: face recognition that can be stopped. Each sub-package is one room; pyproject.toml says who may import whom."""
