"""The console: human review, moratoria, the ledger and galleries in a browser.

``roles`` says who may do what; ``reviews``, ``policy``, ``ledger`` and ``galleries`` have one service each; ``web`` has
the pages. See docs/console.md and docs/adr/0009-console.md.
"""
