"""``python -m bench``: the command ``mergearena``."""

from mergearena.bench.cli.main import main

if __name__ == "__main__":
    main()
