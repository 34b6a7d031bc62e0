"""Whether the shipped data packs and models are, byte for byte, those that were shipped.

``SHA256SUMS`` names them in the format of sha256sum(1), with paths from its own folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mergearena.bench.files.atomic import write_text
from mergearena.bench.files.hashing import sha256

HERE = Path(__file__).parent
SUMS = "SHA256SUMS"
_SHIPPED = ("data/**/*.parquet", "zoo/*.safetensors", "zoo/figures.json")


def differing(root: Path = HERE) -> Iterator[str]:
    """What is missing below ``root`` or is not as its ``SHA256SUMS`` says, a line each; nothing if all is well.

    Raises:
        OSError: there is no ``SHA256SUMS``, or a file cannot be read.
    """
    for line in (root / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = root / name
        if not path.is_file():
            yield f"{name} is missing"
        elif sha256(path) != digest:
            yield f"{name} is not the file that was shipped: its SHA-256 differs"


def write_sums(root: Path = HERE) -> None:
    """Write ``SHA256SUMS`` anew, after packs or models were built."""
    paths = sorted(path for pattern in _SHIPPED for path in root.glob(pattern))
    write_text(root / SUMS, "".join(f"{sha256(p)}  {p.relative_to(root).as_posix()}\n" for p in paths))
