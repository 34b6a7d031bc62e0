"""What commands are asked: a dataclass of options for each that plays, and what follows from them."""
