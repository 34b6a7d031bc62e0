"""Pictures for the README: drawn when what they show has changed, and never otherwise."""

import pytest
from PIL import Image

from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.page import pictures
from mergearena.leaderboard.protection.parts import SuiteBoard
from worlds import poisoned, world

NAMES = {
    "plots/toy-resistance-against-cost.png",
    "plots/toy-recovered-against-cost.png",
    "plots/toy-asr-against-score.png",
}


@pytest.fixture(scope="module")
def board():
    return build([*world(), *poisoned()])


@pytest.fixture
def folder(board, tmp_path):
    pictures.write(board, tmp_path)
    return tmp_path


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in (folder / "plots").iterdir()}


def test_each_suite_has_its_pictures_and_the_same_board_gives_the_same_bytes(board, folder, tmp_path_factory):
    assert files(folder).keys() == NAMES
    for name in NAMES:
        with Image.open(folder / name) as picture:
            assert picture.width > 1000
            assert len(picture.convert("RGB").getcolors()) > 10
    again = tmp_path_factory.mktemp("again")
    pictures.write(board, again)
    assert files(again) == files(folder)


def test_pictures_that_show_what_they_should_are_left_alone_whatever_their_pixels(board, folder):
    assert pictures.outdated(pictures.specifications(board), folder) == []
    path = folder / min(NAMES)
    with Image.open(path) as picture:
        told = pictures.PngInfo()
        told.add_text("shows", picture.info["shows"])
        Image.new("RGB", (9, 9)).save(path, pnginfo=told)
    other_fonts = path.read_bytes()
    pictures.write(board, folder)
    assert path.read_bytes() == other_fonts


@pytest.mark.parametrize("tamper", ["missing", "not a picture", "unmarked", "too many"])
def test_whatever_is_wrong_with_a_picture_is_found_and_mended(board, folder, tamper):
    before, path = files(folder), folder / min(NAMES)
    if tamper == "missing":
        path.unlink()
    elif tamper == "not a picture":
        path.write_bytes(b"no")
    elif tamper == "unmarked":
        Image.new("RGB", (9, 9)).save(path)
    else:
        path = path.with_name("gone-resistance-against-cost.png")
        path.write_bytes(b"of a suite that is no longer there")
    assert pictures.outdated(pictures.specifications(board), folder) == [path]
    pictures.write(board, folder)
    assert files(folder) == before


def test_other_data_make_the_pictures_that_show_them_stale(board, folder):
    other = build(world())
    assert {p.name for p in pictures.outdated(pictures.specifications(other), folder)} == {"toy-asr-against-score.png"}
    rows = [row.model_copy(update={"relative_protect_cost": 0.5}) for row in board.of(SuiteBoard)[0].defenses]
    changed = board.of(SuiteBoard)[0].model_copy(update={"defenses": tuple(rows)})
    found = pictures.outdated(pictures.specifications(board.model_copy(update={"protection": (changed,)})), folder)
    assert {path.name for path in found} == {"toy-resistance-against-cost.png"}
