"""The page shows what the board says, all of it, and needs nothing but itself."""

import random
import re
import shutil
from html.parser import HTMLParser

import pytest

from bench import terminal
from bench.cost import Cost
from bench.game import Tier
from leaderboard.board import IntervalPart, Leaderboard, tied
from leaderboard.build import build
from leaderboard.page import render
from record_factory import ALIGNED, NAIVE, make_record

SWEEP = [f"lock(rate=0.{rate}, mode=slow)" for rate in (1, 2, 3)]
STRANGE = "<script>alert('1')</script>&\"amp;"
SHARES = {"none": 1.0, "params": 0.7, SWEEP[0]: 0.6, SWEEP[1]: 0.4, SWEEP[2]: 0.3, STRANGE: 0.5}


def world(suite="toy"):
    """Two matches, two seeds; the last of the sweep loses accuracy, an attack on params fails with strange words."""
    found = []
    for victim, donor in (("v", "d"), ("d", "v")):
        for seed in (0, 1):
            match = {"suite": suite, "victim": victim, "donors": (donor,), "seed": seed}
            found.append(make_record(**match, attack="base-only", uses_victim=False, test=(0.5, 0.3)))
            for defense, share in SHARES.items():
                here = match | {"defense": defense}
                kept = 0.8 if defense == SWEEP[2] else 0.95
                found.append(make_record(**here | {"attack": None}, test=(kept,), cost=Cost(flops=25)))
                found.append(make_record(**here, test=(0.5 + 0.4 * share, 0.9)))
                if defense == "params":
                    failed = {"status": "timeout", "reason": f"slow {STRANGE}"}
                    found.append(make_record(**here, attack=ALIGNED, tier=Tier.LABELLED, **failed))
    return found


class Reader(HTMLParser):
    """The tables by the last part of their captions' ids, as rows of cells' texts; and every tag."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.tags, self.at, self.cell = {}, [], "", None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "caption":
            self.at = attrs["id"].rpartition("-")[2]
            self.tables[self.at] = []
        elif tag == "tr":
            self.tables[self.at].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[self.at][-1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


@pytest.fixture(scope="module")
def board():
    return build(world())


@pytest.fixture(scope="module")
def page(board):
    return render(board)


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def test_every_defense_has_its_row_in_the_order_of_the_board_with_rank_and_reason(board, read):
    (suite,) = board.protection
    head, *rows = read.tables["ranking"]
    assert [row[1].split(maxsplit=1)[1] for row in rows] == [d.defense for d in suite.defenses]
    assert set(SHARES) == {d.defense for d in suite.defenses}
    assert [row[0].removesuffix(" tie") for row in rows] == [str(d.rank or "–") for d in suite.defenses]
    unranked = next(row for row in rows if SWEEP[2] in row[1])
    assert "fidelity under 0.98" in unranked[head.index("notes")]
    for row, defense in zip(rows, suite.defenses, strict=True):
        for tier, part in defense.resistance.items():
            shown = f"{part.mean:.2f} [{part.low:.2f}, {part.high:.2f}]"
            assert row[head.index(tier)] == shown
        assert row[head.index("protect cost")] == "2.5 %"


def test_every_attack_meets_every_defense_in_the_heat_map(board, read):
    (suite,) = board.protection
    head, *rows = read.tables["heat"]
    assert [name.split(maxsplit=1)[1] for name in head[2:]] == [d.defense for d in suite.defenses]
    met = {attack: dict(zip(head[2:], cells, strict=True)) for attack, _, *cells in rows}
    assert {name.split(maxsplit=1)[1]: shown for name, shown in met[NAIVE].items()} == {
        name: f"{100 * share:.0f}" for name, share in SHARES.items()
    }
    of_aligned = {name.split(maxsplit=1)[1]: shown for name, shown in met[ALIGNED].items()}
    assert of_aligned == dict.fromkeys(SHARES, "·") | {"params": "✗"}


def test_attacks_references_and_failures_are_all_there(board, read):
    (suite,) = board.protection
    assert [row[0] for row in read.tables["attacks"][1:]] == [a.attack for a in suite.attacks]
    references = {(row[0], row[1], row[2]): row for row in read.tables["references"][1:]}
    assert set(references) == {(m.match, str(m.seed), tier) for m in suite.matches for tier in m.tiers}
    assert references["v+d", "0", "data-free"][3:6] == ["95.0", "50.0", "90.0"]
    assert [row[-1] for row in read.tables["failures"][1:]] == [f"slow {STRANGE}"] * 4


def with_intervals(board, *bounds):
    """The board with as many ranked defenses, whose data-free intervals are these; ranks are left to the caller."""
    (suite,) = board.protection
    rows = []
    for (rank, low, high), row in zip(bounds, suite.defenses, strict=False):
        part = IntervalPart(mean=(low + high) / 2, low=low, high=high, matches=4)
        rows.append(row.model_copy(update={"rank": rank, "resistance": {Tier.DATA_FREE: part}}))
    return Leaderboard(protection=(suite.model_copy(update={"defenses": tuple(rows)}),))


@pytest.mark.parametrize(
    ("bounds", "ranks"),
    [
        ([(1, 0.8, 0.9), (2, 0.5, 0.6), (3, 0.1, 0.2)], ["1", "2", "3"]),
        ([(1, 0.8, 0.9), (1, 0.5, 0.85), (3, 0.1, 0.2)], ["1 tie", "1 tie", "3"]),
        # The third overlaps the second but not the first: another rank, yet not told apart from its neighbour.
        ([(1, 0.8, 0.9), (1, 0.5, 0.85), (3, 0.4, 0.6)], ["1 tie", "1 tie", "3 tie"]),
        # The third overlaps the first but not its narrow neighbour.
        ([(1, 0.4, 0.9), (1, 0.6, 0.61), (1, 0.3, 0.5)], ["1 tie", "1 tie", "1 tie"]),
        ([(1, 0.5, 0.5), (1, 0.5, 0.5)], ["1 tie", "1 tie"]),
    ],
)
def test_page_and_terminal_call_overlapping_neighbours_a_tie(board, bounds, ranks):
    changed = with_intervals(board, *bounds)
    rows = changed.protection[0].defenses
    assert [row[0] for row in Reader(render(changed)).tables["ranking"][1:]] == ranks
    assert list(terminal.defense_table(rows, tied(rows)).columns[0].cells) == ranks
    assert {row.defense for row, rank in zip(rows, ranks, strict=True) if "tie" in rank} == tied(rows)


def test_the_page_opens_on_the_answer(board):
    def answer(changed):
        text = re.sub(r"<[^>]+>", "", re.search(r'<p class="answer">(.*?)</p>', render(changed), re.S)[1])
        return " ".join(text.split())

    rows = [d.defense for d in board.protection[0].defenses]
    assert answer(with_intervals(board, (1, 0.7, 0.8), (2, 0.1, 0.2))).startswith(f"{rows[0]} resists best:")
    assert "recover 25 % of" in answer(with_intervals(board, (1, 0.7, 0.8), (2, 0.1, 0.2)))
    assert answer(with_intervals(board, (1, 0.7, 0.8), (1, 0.1, 0.75))).startswith("2 defenses tie for the first rank")
    assert answer(with_intervals(board, (None, 0.7, 0.8))) == "No defense could be ranked."
    alone = build([r for r in world() if r.defense == "none"])
    assert answer(alone).startswith("No ranked defense does better than none at all")


def test_what_players_write_stays_text(page, read):
    assert not [tag for tag, _ in read.tags if tag in ("script", "iframe", "img", "object")]
    assert "<script" not in page
    of_suite = render(build(world(suite='x" onload="alert(1)"><b>')))
    assert not [attrs for _, attrs in Reader(of_suite).tags if "onload" in attrs]


def test_nothing_is_loaded_from_anywhere(page, read):
    for tag, attrs in read.tags:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"@import|url\((?!#)", page)
    named = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert named <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_board_gives_the_same_bytes(board, page):
    render(build(world("another")))  # nothing may be left over from it, such as a counter of identifiers
    assert render(board) == page
    shuffled = world()
    random.Random(0).shuffle(shuffled)
    assert render(build(shuffled)) == page


def test_identifiers_are_unique_and_lead_somewhere():
    read = Reader(render(build([*world(), *world("another")])))
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in read.tags:
        assert attrs.get("href", "#").removeprefix("#") in {"", "data:,", *ids}
        assert attrs.get("aria-labelledby", ids[0]) in ids


def test_tables_are_tables(read):
    heads = [attrs for tag, attrs in read.tags if tag == "th"]
    assert heads
    assert all(attrs.get("scope") in ("row", "col") for attrs in heads)
    counted = [tag for tag, _ in read.tags]
    assert counted.count("table") == counted.count("caption") == len(read.tables)
    for rows in read.tables.values():
        assert {len(row) for row in rows} == {len(rows[0])}


def test_a_board_without_suites_is_a_page():
    assert "No plays are recorded yet" in render(Leaderboard(protection=()))


@pytest.mark.parametrize("kept", ["one release", "only failures"])
def test_a_board_with_nothing_to_draw_is_a_page(kept):
    release = make_record(attack=None)
    failed = make_record(status="failed", defense="params", reason="no")
    read = Reader(render(build([release] if kept == "one release" else [release, failed])))
    assert [row[0] for row in read.tables["ranking"][1:]] == ["–"] * len(read.tables["ranking"][1:])


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this system: apt-get install chromium")
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright: make test installs it")
    with driver.sync_playwright() as p:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield p.chromium.launch(executable_path=path, args=options)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_browser_shows_it_without_errors_requests_or_sideways_scrolling(browser, page, tmp_path, width, scheme):
    path = tmp_path / "board.html"
    path.write_text(page, encoding="utf-8")
    tab = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_load_state("networkidle")
    assert (said, asked) == ([], [path.as_uri()])
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    colours = [
        tab.evaluate(f"getComputedStyle(document.querySelector('{what}')).{how}")
        for what, how in (("body", "backgroundColor"), (".panels svg text", "fill"))
    ]
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (paper > 600 and ink < 400) if scheme == "light" else (paper < 100 and ink > 400)
    first = tab.locator("tbody .interval").first.bounding_box()
    assert first["y"] < 800  # the answer is on the first screen
    tab.context.close()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0 %"), (0.00001, "0.001 %"), (0.4, "40 %"), (1.0, "1.0 ×"), (123.4, "123.4 ×")],
)
def test_costs_are_percentages_or_multiples_never_powers_of_ten(value, shown):
    assert terminal.relative(value) == shown
