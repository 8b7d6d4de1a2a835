"""Abeyance itself under the same rules, run by its own Python."""

from __future__ import annotations

from _abeyance import templates  # isort: skip
from _photos import serve_photos

serve_photos(templates)
