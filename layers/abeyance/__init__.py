"""Face recognition that can be stopped. Each sub-package is a room; pyproject.toml says who may import whom."""
