"""How often a source of text is drawn: everyday language first, the old English of 1611 last."""

WEIGHTS = {"fortunes": 0.28, "examples": 0.32, "glosses": 0.25, "jargon": 0.05, "bible": 0.10}
