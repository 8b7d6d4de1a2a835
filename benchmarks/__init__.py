"""The speed of the parts beside their alternatives: one module per question, one table of ratios."""
