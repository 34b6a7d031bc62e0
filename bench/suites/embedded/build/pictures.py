"""The two tasks whose images are made here: letters from fonts, textures from photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mergearena.bench.suites.embedded.build.packing import Pack, PackConfig, drop_duplicates, need
from mergearena.bench.suites.embedded.loading import SIDE, SPLITS
from mergearena.bench.suites.embedded.tasks import TASKS

# Fonts with a full upper-case alphabet. A font belongs to one split, and each split sees upright, slanted, bold,
# serif, sans and mono shapes; the slanted or bold sister of a test font may be in training, as a real font would.
FONTS = {
    "train": (
        "DejaVuSans",
        "DejaVuSans-BoldOblique",
        "DejaVuSansMono-Bold",
        "DejaVuSansMono-Oblique",
        "DejaVuSerif",
        "DejaVuSerif-BoldItalic",
        "DejaVuSerifDisplay",
        "STIXGeneral",
        "STIXGeneralBolIta",
        "cmb10",
        "cmmi10",
        "cmss10",
        "DejaVuSerif-Bold",
        "DejaVuSans-Bold",
        "STIXGeneralItalic",
    ),
    "validation": ("DejaVuSansMono", "STIXGeneralBol"),
    "test": ("DejaVuSans-Oblique", "DejaVuSansMono-BoldOblique", "DejaVuSerif-Italic", "cmr10", "cmtt10"),
}

# Class -> file of skimage.data, and the sides (pixels) of the square patches that are cut and shrunk to 28 x 28.
PHOTOGRAPHS = {
    "brick": ("brick.png", (40, 60)),
    "grass": ("grass.png", (40, 60)),
    "gravel": ("gravel.png", (40, 60)),
    "ancient coins": ("coins.png", (32, 44)),
    "moon surface": ("moon.png", (40, 60)),
    "printed page": ("page.png", (30, 44)),
    "stained tissue": ("ihc.png", (40, 60)),
    "retina": ("retina.jpg", (50, 62)),
    "galaxies": ("hubble_deep_field.jpg", (40, 60)),
    "cat fur": ("chelsea.png", (36, 48)),
}
_TILE = 64  # pixels: a tile of a photograph belongs to one split, and a patch never leaves its tile
_MIN_CONTRAST = 6.0  # grey levels of standard deviation; flatter patches show nothing


def _render(letter: str, font_path: Path, rng: np.random.Generator) -> np.ndarray:
    """One upper-case letter, white on black, with a random size, turn, shear and place; 28 x 28 uint8."""
    image, draw, font = need("PIL.Image"), need("PIL.ImageDraw"), need("PIL.ImageFont")
    side = 4 * SIDE  # drawn large and shrunk: smooth edges
    canvas = image.new("L", (side, side), 0)
    face = font.truetype(str(font_path), int(rng.uniform(0.62, 0.95) * side))
    draw.Draw(canvas).text((side / 2, side / 2), letter.upper(), fill=255, font=face, anchor="mm")
    angle, shear = np.deg2rad(rng.uniform(-14, 14)), rng.uniform(-0.2, 0.2)
    matrix = np.array([[np.cos(angle), np.sin(angle) + shear], [-np.sin(angle), np.cos(angle)]])
    shift = np.full(2, side / 2) - matrix @ (np.full(2, side / 2) + rng.uniform(-0.07, 0.07, size=2) * side)
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    turned = canvas.transform((side, side), image.Transform.AFFINE, coefficients, image.Resampling.BILINEAR)
    grey = np.asarray(turned.resize((SIDE, SIDE), image.Resampling.BOX), dtype=np.float64)
    noisy = grey * rng.uniform(0.55, 1.0) + rng.normal(0.0, 4.0, size=grey.shape) * (grey > 0)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def letters(config: PackConfig, rng: np.random.Generator) -> Pack:
    """The upper-case letters A to J (as in notMNIST) in the fonts of each split, N x 28 x 28."""
    matplotlib = need("matplotlib")
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    alphabet = TASKS["letters"].classes
    pack: Pack = {}
    for split in SPLITS:
        wanted = config.letters_per_font * len(FONTS[split]) * len(alphabet) if split == "train" else config.size(split)
        jobs = [(label, font) for label in range(len(alphabet)) for font in FONTS[split]]
        order = np.resize(rng.permutation(len(jobs)), wanted)  # every pair once before any comes twice
        drawn = [(jobs[i][0], _render(alphabet[jobs[i][0]], folder / f"{jobs[i][1]}.ttf", rng)) for i in order]
        pack[split] = drop_duplicates(np.stack([grey for _, grey in drawn]), np.array([label for label, _ in drawn]))
    return pack


def _patch(
    photograph: np.ndarray, tile: tuple[int, int], sides: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    """A random square inside one tile, at a standard contrast, 28 x 28 uint8; None if it is flat."""
    image = need("PIL.Image")
    side = int(rng.integers(sides[0], sides[1] + 1))
    limits = [min(_TILE, size - start) - side for start, size in zip(tile, photograph.shape, strict=True)]
    if min(limits) < 0:
        return None
    top, left = (start + int(rng.integers(0, limit + 1)) for start, limit in zip(tile, limits, strict=True))
    window = image.fromarray(photograph[top : top + side, left : left + side])
    grey = np.asarray(window.resize((SIDE, SIDE), image.Resampling.BOX), dtype=np.float64)
    if grey.std() < _MIN_CONTRAST:
        return None
    # Brightness would give the photograph away; what remains is texture.
    return np.clip((grey - grey.mean()) / grey.std() * 50 + 128, 0, 255).astype(np.uint8)


def _tiles(photograph: np.ndarray, rng: np.random.Generator) -> dict[str, list[tuple[int, int]]]:
    """Top-left corners of the photograph's tiles, dealt to the splits at random: 60, 14 and 26 %."""
    height, width = photograph.shape
    corners = [(top, left) for top in range(0, height - 32, _TILE) for left in range(0, width - 32, _TILE)]
    corners = [corners[i] for i in rng.permutation(len(corners))]
    test, validation = max(2, round(0.26 * len(corners))), max(1, round(0.14 * len(corners)))
    return {
        "test": corners[:test],
        "validation": corners[test : test + validation],
        "train": corners[test + validation :],
    }


def textures(config: PackConfig, rng: np.random.Generator) -> Pack:
    """Patches of ten photographs, N x 28 x 28; tiles, and so pixels, are disjoint between the splits."""
    skimage, image = need("skimage"), need("PIL.Image")
    folder = Path(str(skimage.__file__)).parent / "data"
    sizes = {"train": config.texture_train, "validation": config.validation, "test": config.test}
    found: dict[str, list[tuple[np.ndarray, int]]] = {split: [] for split in SPLITS}
    for label, (name, sides) in enumerate(PHOTOGRAPHS.values()):
        photograph = np.asarray(image.open(folder / name).convert("L"))
        for split, corners in _tiles(photograph, rng).items():
            patches: list[np.ndarray] = []
            for _ in range(100 * sizes[split]):  # flat patches are drawn again, within reason
                patch = _patch(photograph, corners[int(rng.integers(len(corners)))], sides, rng)
                patches += [] if patch is None else [patch]
                if len(patches) == sizes[split] // len(PHOTOGRAPHS):
                    break
            found[split] += [(patch, label) for patch in patches]
    pairs = {split: tuple(zip(*found[split], strict=True)) for split in SPLITS}
    return {split: drop_duplicates(np.stack(pairs[split][0]), np.array(pairs[split][1])) for split in SPLITS}
