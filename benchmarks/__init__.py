"""How fast the parts are, beside what a user would pick instead: one module per question, one table of ratios."""
