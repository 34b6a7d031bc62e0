"""``python -m bench``: the command ``mergearena``."""

from bench.cli import main

if __name__ == "__main__":
    main()
