"""A third game, as somebody might add it: painters soil a fine-tuned model, erasers clean it with the base at hand."""
