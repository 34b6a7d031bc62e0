"""The page shows what the board says, all of it, and needs nothing but itself."""

import base64
import hashlib
import random
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.backdoor.parts import BackdoorBoard
from mergearena.leaderboard.board.build import build, to_json
from mergearena.leaderboard.board.leaderboard import model_of
from mergearena.leaderboard.board.parts import IntervalPart, OptionPart, PlayerPart, SubmissionPart
from mergearena.leaderboard.page import formats
from mergearena.leaderboard.page.anchors import anchors, slug
from mergearena.leaderboard.page.render import render
from mergearena.leaderboard.protection import terminal
from mergearena.leaderboard.protection.parts import SuiteBoard, tied
from record_factory import ALIGNED, NAIVE, make_record
from worlds import ASR, SHARES, STRANGE, SWEEP, poisoned, world

HERE = "protection/toy"


class Reader(HTMLParser):
    """The tables by their captions' ids, as rows of cells' texts; every tag, and the text below each id."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.tags, self.at, self.cell = {}, [], "", None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "caption":
            self.at = attrs["id"]
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
    return build([*world(), *poisoned()])


@pytest.fixture(scope="module")
def page(board):
    return render(board)


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def test_every_defense_has_its_row_in_the_order_of_the_board_with_rank_and_reason(board, read):
    (suite,) = board.of(SuiteBoard)
    head, *rows = read.tables[f"{HERE}/ranking"]
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


def named(text):
    """A name without its letter."""
    return text.split(maxsplit=1)[1]


def test_every_attack_meets_every_defense_in_the_heat_map(board, read):
    (suite,) = board.of(SuiteBoard)
    (_, _, *defenses), *rows = read.tables[f"{HERE}/heat"]
    assert [named(defense) for defense in defenses] == [d.defense for d in suite.defenses]
    met = {named(attack): dict(zip(map(named, defenses), cells, strict=True)) for attack, _, *cells in rows}
    assert met[NAIVE] == {name: f"{100 * share:.0f}" for name, share in SHARES.items()}
    assert met[ALIGNED] == dict.fromkeys(SHARES, "·") | {"params": "✗"}


def test_attacks_references_and_failures_are_all_there(board, read):
    (suite,) = board.of(SuiteBoard)
    head, *rows = read.tables[f"{HERE}/attacks"]
    assert [named(row[0]) for row in rows] == [a.attack for a in suite.attacks]
    assert rows[0][head.index("defenses met")] == str(len(SHARES) - 1)
    references = {(row[0], row[1], row[2]): row for row in read.tables[f"{HERE}/references"][1:]}
    assert set(references) == {(m.match, str(m.seed), tier) for m in suite.matches for tier in m.tiers}
    assert references["v+d", "0", "data-free"][3:6] == ["95.0", "50.0", "90.0"]
    assert [row[-1] for row in read.tables[f"{HERE}/failures"][1:]] == [f"slow {STRANGE}"] * 4


def test_every_defense_has_its_details(board, read):
    (suite,) = board.of(SuiteBoard)
    for row in suite.defenses:
        (found,) = [rows for name, rows in read.tables.items() if name == f"{links(suite)[row.defense]}/matches"]
        cases = {(match, tier): rest for match, tier, *rest in found[1:]}
        assert set(cases) == {(w.match, w.tier) for w in row.worst}
        released, merged, donors, recovered, by = cases["v+d", "data-free"]
        share = SHARES[row.defense]
        assert float(released) == pytest.approx(80 if row.defense == SWEEP[2] else 95)
        assert [float(merged), float(donors), float(recovered)] == pytest.approx([50 + 40 * share, 90, 100 * share])
        assert by == "a"


def test_every_attack_has_its_details(read):
    table = read.tables[f"{HERE}/attack/{slug(NAIVE)}/defenses"]
    recovered = {named(row[0]): row[1] for row in table[1:]}
    assert recovered == {name: f"{100 * share:.1f}" for name, share in SHARES.items()}
    failed = read.tables[f"{HERE}/attack/{slug(ALIGNED)}/defenses"]
    assert [named(row[0]) for row in failed[1:]] == ["params"]
    assert failed[1][-1] == "4 of 4 timeout"


def test_the_backdoor_track_is_all_there(read):
    there = "backdoor/toy"
    (mergers, *rows), (_, *heat) = read.tables[f"{there}/ranking"], read.tables[f"{there}/heat"]
    assert [(row[0], named(row[1])) for row in rows] == [("1", "regmean"), ("2", "ties"), ("–", "dare")]
    assert rows[0][mergers.index("worst ASR")] == "20 (one match)"
    assert [rows[0][mergers.index(name)] for name in ("succession", "transfer", "robust")] == ["20.0", "10.0", "80.0"]
    assert "20.0 points below" in rows[2][mergers.index("notes")]
    assert heat == [["badnets", "20", "90", "60"]]
    attacks, row = read.tables[f"{there}/attacks"]
    assert [row[attacks.index(name)] for name in ("alone", "base", "clean merge")] == ["100.0", "10.0", "5.0"]
    assert {merger for merger in ASR if f"{there}/merger/{merger}/attacks" in read.tables} == set(ASR)
    clean = read.tables[f"{there}/merger/ties/attacks"][-1]
    assert clean[:3] == ["none: all are clean", "–", "–"]
    assert [named(row[0]) for row in read.tables[f"{there}/attack/badnets/mergers"][1:]] == ["regmean", "ties", "dare"]


def links(suite):
    return anchors(f"{HERE}/defense", (row.defense for row in suite.defenses))


def test_links_stay_the_same_when_others_join():
    alone, joined = anchors("x", ["a b"]), anchors("x", ["a b", "c"])
    assert alone["a b"] == joined["a b"] == "x/a-b"
    same = anchors("x", ["a(b)", "a b", "...", "("])
    assert len(set(same.values())) == 4
    assert anchors("x", ["a b", "a(b)"])["a b"] == same["a b"]
    assert all(re.fullmatch(r"x/[a-z0-9.=_-]+", place) for place in same.values())


def test_methods_are_described_in_their_authors_words(board):
    player = PlayerPart(
        name="params",
        kind="defense",
        paper="a paper",
        description="Scale `W` by <b>:\n\n    W = s W\n\nClaims much.",
        options=(OptionPart(name="share", default="1", meaning="How much."),),
    )
    shown = render(board.model_copy(update={"players": (player,)}))
    assert '<a href="#player/params"><code>params</code></a>: Scale <code>W</code> by &lt;b&gt;' in shown
    assert "<pre>    W = s W</pre>" in shown
    assert "<p>Claims much.</p>" in shown
    assert ["share", "1", "How much."] in Reader(shown).tables["player/params/options"]


def test_who_submitted_something_is_named(board):
    submission = SubmissionPart(
        name="lock",
        kind="defense",
        authors=("A. Uthor",),
        paper="a paper",
        date="2025-02-03T00:00:00+00:00",
        players=(SWEEP[0],),
        code=None,
    )
    shown = render(board.model_copy(update={"submissions": (submission,)}))
    assert shown.count("Submitted by A. Uthor, 2025-02-03: a paper.") == 1
    assert Reader(shown).tables["submissions/list"][1][:3] == ["lock", "defense", "A. Uthor"]


def with_intervals(board, *bounds):
    """The board with as many ranked defenses, whose data-free intervals are these; ranks are left to the caller."""
    (suite,) = board.of(SuiteBoard)
    rows = []
    for (rank, low, high), row in zip(bounds, suite.defenses, strict=False):
        part = IntervalPart(mean=(low + high) / 2, low=low, high=high, matches=4)
        rows.append(row.model_copy(update={"rank": rank, "resistance": {Tier.DATA_FREE: part}}))
    return model_of()(protection=(suite.model_copy(update={"defenses": tuple(rows)}),))


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
    rows = changed.of(SuiteBoard)[0].defenses
    assert [row[0] for row in Reader(render(changed)).tables[f"{HERE}/ranking"][1:]] == ranks
    assert list(terminal.defense_table(rows, tied(rows)).columns[0].cells) == ranks
    assert {row.defense for row, rank in zip(rows, ranks, strict=True) if "tie" in rank} == tied(rows)


def test_the_page_opens_on_the_answer(board):
    def answer(changed):
        text = re.sub(r"<[^>]+>", "", re.search(r'<p class="answer">(.*?)</p>', render(changed), re.S)[1])
        return " ".join(text.split())

    rows = [d.defense for d in board.of(SuiteBoard)[0].defenses]
    assert answer(with_intervals(board, (1, 0.7, 0.8), (2, 0.1, 0.2))).startswith(f"{rows[0]} resists best:")
    assert "recover 25 % of" in answer(with_intervals(board, (1, 0.7, 0.8), (2, 0.1, 0.2)))
    assert answer(with_intervals(board, (1, 0.7, 0.8), (1, 0.1, 0.75))).startswith("2 defenses tie for the first rank")
    assert answer(with_intervals(board, (None, 0.7, 0.8))) == "No defense could be ranked."
    alone = build([r for r in world() if r.defense == "none"])
    assert answer(alone).startswith("No ranked defense does better than none at all")


def test_a_board_of_safe_merging_opens_on_the_answer(board):
    def answer(ranks):
        here = board.of(BackdoorBoard)[0]
        rows = [row.model_copy(update={"rank": rank}) for row, rank in zip(here.mergers, ranks, strict=True)]
        changed = board.model_copy(update={"backdoor": (here.model_copy(update={"mergers": tuple(rows)}),)})
        *_, last = re.findall(r'<p class="answer">(.*?)</p>', render(changed), re.S)
        return " ".join(re.sub(r"<[^>]+>", "", last).split())

    first, *others = board.of(BackdoorBoard)[0].mergers
    ranked = answer([1, *(None for _ in others)])
    assert ranked.startswith(f"{first.defense} merges most safely among those that keep the clean score: the strongest")
    assert f"makes {100 * first.worst_asr.mean:.0f} % of triggered inputs pass" in ranked
    assert answer([1 for _ in board.of(BackdoorBoard)[0].mergers]).startswith(
        f"{1 + len(others)} mergers that keep the clean score tie"
    )
    assert answer([None for _ in board.of(BackdoorBoard)[0].mergers]) == "No merger could be ranked."


def test_what_players_write_stays_text(page, read):
    assert [tag for tag, _ in read.tags if tag in ("script", "iframe", "img", "object")] == ["script"]
    assert page.count("<script") == 1
    of_suite = render(build(world(suite='x" onload="alert(1)"><b>')))
    assert not [attrs for _, attrs in Reader(of_suite).tags if "onload" in attrs]


def test_only_the_script_of_the_page_may_run(page):
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy


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
    shuffled = [*world(), *poisoned()]
    random.Random(0).shuffle(shuffled)
    assert render(build(shuffled)) == page
    assert render(model_of().model_validate_json(to_json(board))) == page


def test_identifiers_are_unique_and_lead_somewhere():
    read = Reader(render(build([*world(), *world("another"), *poisoned(), *poisoned("another")])))
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in read.tags:
        assert unquote(attrs.get("href", "#")).removeprefix("#") in {"", "data:,", *ids}
        assert attrs.get("aria-labelledby", ids[0]) in ids
    assert not [name for name in ids if re.search(r"[^a-z0-9./=_-]", name)]


def test_tables_are_tables(read):
    heads = [attrs for tag, attrs in read.tags if tag == "th"]
    assert heads
    assert all(attrs.get("scope") in ("row", "col") for attrs in heads)
    counted = [tag for tag, _ in read.tags]
    assert counted.count("table") == counted.count("caption") == len(read.tables)
    for rows in read.tables.values():
        assert {len(row) for row in rows} == {len(rows[0])}


def test_a_board_without_suites_is_a_page():
    assert "No plays are recorded yet" in render(build([]))


@pytest.mark.parametrize("kept", ["one release", "only failures"])
def test_a_board_with_nothing_to_draw_is_a_page(kept):
    release = make_record(attack=None)
    failed = make_record(status="failed", defense="params", reason="no")
    read = Reader(render(build([release] if kept == "one release" else [release, failed])))
    assert [row[0] for row in read.tables[f"{HERE}/ranking"][1:]] == ["–"] * len(read.tables[f"{HERE}/ranking"][1:])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0 %"), (0.00001, "0.001 %"), (0.4, "40 %"), (1.0, "1.0 ×"), (123.4, "123.4 ×")],
)
def test_costs_are_percentages_or_multiples_never_powers_of_ten(value, shown):
    assert formats.relative(value) == shown
