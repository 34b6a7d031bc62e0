"""The page in Chromium: it sorts, filters and links, for everybody, from disk, at once."""

import re
import shutil
from types import SimpleNamespace

import pytest

from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.page.render import render
from record_factory import NAIVE
from worlds import STRANGE, SWEEP, crowd, poisoned, world

driver = pytest.importorskip("playwright.sync_api", reason="no playwright: make test installs it")
TOY, TEXT, SAFE = "protection/toy", "protection/text", "backdoor/toy"


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this system: apt-get install chromium")
    with driver.sync_playwright() as p:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        found = p.chromium.launch(executable_path=path, args=options)
        yield found
        found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    found = tmp_path_factory.mktemp("page") / "index.html"
    text = render(build([*world(), *world("text", naive="weight-matching > average"), *poisoned()]))
    found.write_text(text, encoding="utf-8")
    return found


@pytest.fixture
def visit(browser, path):
    """Open the page, with what follows its address; whatever it says or asks for fails the test."""
    contexts = []

    def visited(fragment="", page=path, width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        tab = contexts[-1].new_page()
        said, asked = [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        contexts[-1].unexpected = lambda: (said, [url for url in asked if url.partition("#")[0] != page.as_uri()])
        tab.goto(page.as_uri() + fragment)
        return tab

    yield visited
    unexpected = [context.unexpected() for context in contexts]
    for context in contexts:
        context.close()
    assert unexpected == [([], [])] * len(contexts)


def table(tab, name):
    return tab.locator(f"table:has(> caption[id='{name}'])")


def column(tab, name, number):
    """The texts of a table's column, of the rows that are shown."""
    rows = table(tab, name).locator("tbody tr:visible")
    return [" ".join(row.locator("th, td").nth(number).inner_text().split()) for row in rows.all()]


def boards(tab):
    return [board.get_attribute("id") for board in tab.locator(".board:visible").all()]


def current(tab):
    return [link.get_attribute("href") for link in tab.locator(".toolbar [aria-current]").all()]


def click(tab, text, within=".toolbar"):
    tab.locator(within).get_by_role("link", name=text, exact=True).first.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_opens_on_the_answer_in_the_readers_colours_and_width(visit, width, scheme):
    tab = visit(width=width, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    colours = [
        tab.evaluate(f"getComputedStyle(document.querySelector('{what}')).{how}")
        for what, how in (("body", "backgroundColor"), (".panels svg text", "fill"))
    ]
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (paper > 600 and ink < 400) if scheme == "light" else (paper < 100 and ink > 400)
    assert tab.locator("tbody .interval").first.bounding_box()["y"] < 800


def test_the_whole_page_fits_a_phone_with_everything_open(visit):
    tab = visit(width=360)
    tab.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert tab.evaluate(wide) > 0


def test_tables_sort_by_any_column_both_ways_and_say_so(visit):
    tab = visit()
    name = f"{TOY}/ranking"
    before = column(tab, name, 1)
    fidelity = table(tab, name).get_by_role("columnheader", name="fidelity")
    assert fidelity.get_attribute("aria-sort") is None
    fidelity.get_by_role("button").click()
    assert fidelity.get_attribute("aria-sort") == "descending"
    values = [float(value) for value in column(tab, name, 6)]
    assert values == sorted(values, reverse=True)
    fidelity.get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert fidelity.get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in column(tab, name, 6)] == sorted(values)
    assert SWEEP[2] in column(tab, name, 1)[0]
    rank = table(tab, name).get_by_role("columnheader", name="rank")
    rank.get_by_role("button").click()
    assert (rank.get_attribute("aria-sort"), fidelity.get_attribute("aria-sort")) == ("ascending", None)
    assert column(tab, name, 1) == before  # numbers first, then those without a rank


def test_what_has_no_value_is_last_either_way_and_costs_sort_as_numbers(visit):
    tab = visit()
    name = f"{TOY}/attacks"
    recovered = table(tab, name).get_by_role("button", name="strongest in")
    for _ in range(2):
        recovered.click()
        assert column(tab, name, 4)[-1] == "–"
    values = tab.evaluate(
        """["40 %", "1.0 ×", "0.001 %", "–"].map(text => {
            const cell = document.createElement('td');
            cell.textContent = text;
            if (text !== '–') cell.dataset.value = {"40 %": .4, "1.0 ×": 1, "0.001 %": 1e-5}[text];
            return valueOf(cell);
        })"""
    )
    assert values == [0.4, 1, 1e-5, None]


def test_tables_within_details_sort_too(visit):
    tab = visit(f"#{TOY}/attack/{slug(NAIVE)}")
    name = f"{TOY}/attack/{slug(NAIVE)}/defenses"
    table(tab, name).get_by_role("button", name="recovered").click()
    assert column(tab, name, 1) == ["100.0", "70.0", "60.0", "50.0", "40.0", "30.0"]


def slug(text):
    return re.sub(r"[^a-z0-9.=_]+", "-", text)


def test_long_tables_and_lists_filter_by_words(visit, crowded):
    tab = visit(page=crowded)
    field = tab.get_by_label("Filter rows").first
    assert len(column(tab, f"{TOY}/ranking", 1)) == 30
    field.fill("share=0.07 PARAMS")
    assert [name.split()[1] for name in column(tab, f"{TOY}/ranking", 1)] == ["params(share=0.07)"]
    assert tab.locator(".filter output").first.inner_text() == "1 of 30"
    field.fill("")
    assert len(column(tab, f"{TOY}/ranking", 1)) == 30
    tab.get_by_label("Filter entries").first.fill("0.11")
    assert tab.locator(".details").first.locator("> details:visible").count() == 1


def test_links_choose_track_and_suite_and_back_undoes_it(visit):
    tab = visit()
    everything = [TEXT, TOY, SAFE]
    assert (boards(tab), current(tab)) == (everything, ["#boards"])
    steps = [("Safe merging", [SAFE], ["#backdoor"]), ("text", [TEXT], [f"#{TEXT}"])]
    for name, shown, marked in [*steps, ("All boards", everything, ["#boards"])]:
        click(tab, name)
        assert (boards(tab), current(tab)) == (shown, marked)
    tab.go_back()
    assert (boards(tab), current(tab)) == ([TEXT], [f"#{TEXT}"])
    tab.go_back()
    assert boards(tab) == [SAFE]
    tab.go_back()
    assert (boards(tab), current(tab)) == (everything, ["#boards"])


def test_a_tier_shows_its_own_rows_columns_and_plots(visit):
    tab = visit(f"#{TOY}/labelled")
    assert boards(tab) == [TOY]
    heads = [head.inner_text() for head in table(tab, f"{TOY}/ranking").locator("thead th:visible").all()]
    assert [tier for tier in Tier if tier in heads] == ["labelled"]
    assert set(column(tab, f"{TOY}/heat", 1)) == {"labelled"}
    assert {title.strip() for title in tab.locator(".panels svg:visible .role-title-text").all_text_contents()} == {
        "labelled"
    }
    assert tab.locator(".tiers:visible [aria-current]").inner_text() == "labelled"
    click(tab, "all tiers", within=".board:visible .tiers")
    assert len(set(column(tab, f"{TOY}/heat", 1))) == 2


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize(
    "place",
    [
        f"{TOY}/defense/params",
        f"{TEXT}/attack/weight-matching-average",
        f"{SAFE}/merger/ties",
        f"{SAFE}/attack/badnets",
    ],
)
def test_details_have_links_of_their_own(visit, place, script):
    tab = visit(f"#{place}", java_script_enabled=script)
    found = tab.locator(f"[id='{place}']")
    driver.expect(found).to_be_in_viewport()
    assert tab.locator(".detail[open]").count() == 1
    assert boards(tab) == ["/".join(place.split("/")[:2])]


def test_a_click_on_a_defense_opens_its_details_and_back_returns(visit):
    tab = visit()
    table(tab, f"{TOY}/ranking").get_by_role("link", name="params").click()
    assert tab.evaluate("decodeURIComponent(location.hash)") == f"#{TOY}/defense/params"
    driver.expect(tab.locator(f"[id='{TOY}/defense/params']")).to_be_in_viewport()
    tab.go_back()
    assert len(boards(tab)) == 3
    driver.expect(table(tab, f"{TOY}/ranking").get_by_role("link", name="params")).to_be_in_viewport()


def test_strange_names_have_links_too(visit):
    tab = visit()
    table(tab, f"{TOY}/ranking").get_by_role("link", name=STRANGE).click()
    assert tab.locator(".detail[open] summary").inner_text().split()[1:-2] == STRANGE.split()


@pytest.mark.parametrize("fragment", ["#nowhere", "#%E0%A4%A", "#"])
def test_a_link_that_leads_nowhere_shows_everything(visit, fragment):
    tab = visit(fragment)
    assert (len(boards(tab)), current(tab)) == (3, ["#boards"])


def test_the_theme_can_be_chosen_and_is_kept(visit):
    tab = visit(color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(paper)
    tab.get_by_label("Theme").select_option("dark")
    dark = tab.evaluate(paper)
    assert light != dark
    tab.reload()
    assert (tab.evaluate(paper), tab.get_by_label("Theme").input_value()) == (dark, "dark")
    tab.get_by_label("Theme").select_option("system")
    assert tab.evaluate(paper) == light


def test_everything_is_there_without_script(visit):
    tab = visit(java_script_enabled=False)
    assert boards(tab) == [TEXT, TOY, SAFE]
    assert len(column(tab, f"{TOY}/ranking", 1)) == 6
    assert tab.locator("button, input, .theme:visible").count() == 0
    click(tab, "Safe merging")
    assert boards(tab) == [SAFE]
    assert visit(f"#{TOY}/labelled", java_script_enabled=False).locator("tr.data-free:visible").count() == 0


def test_the_keyboard_reaches_the_boards_first_and_is_seen(visit):
    tab = visit()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the boards"
    assert tab.locator(".skip").bounding_box()["x"] >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    tab.keyboard.press("Tab")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing(visit, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: make test installs it")
    tab = visit(width=width, color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('.details > :first-child').forEach(one => { one.open = true })")
    tab.wait_for_function("document.querySelectorAll('.detail[open] table button').length > 10")
    found = axe.Axe().run(tab, options={"resultTypes": ["violations", "incomplete"]}).response
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
    unsure = [node["html"] for rule in found["incomplete"] for node in rule["nodes"]]
    if width == 1280:  # texts of plots have no paper that axe could see; every square of a heat map has
        assert not [html for html in unsure if html.startswith("<td")]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """The page of 30 defenses and 60 attacks."""
    found = tmp_path_factory.mktemp("crowd") / "index.html"
    found.write_text(render(build(crowd())), encoding="utf-8")
    return found


def test_it_opens_within_a_second_with_30_defenses_and_60_attacks(visit, crowded):
    """By the processor time of the page's thread, which other work on the machine does not lengthen."""
    tab = visit(page=crowded)
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy():
        metrics = session.send("Performance.getMetrics")["metrics"]
        return SimpleNamespace(**{metric["name"]: metric["value"] for metric in metrics}).TaskDuration

    tab.goto("about:blank")
    before = busy()
    tab.goto(crowded.as_uri())
    tab.wait_for_load_state("networkidle")
    assert tab.locator("[id='protection/toy/heat']").count() == 1
    assert busy() - before < 1.0
