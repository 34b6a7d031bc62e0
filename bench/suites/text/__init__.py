"""The suite of text: a sentence encoder, four tasks, models built on first use."""

SUITES = {"text": "suite:TextSuite"}
