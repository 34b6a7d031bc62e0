"""The ranking of safe mergers compares like with like."""

from mergearena.leaderboard.backdoor.parts import BackdoorBoard
from mergearena.leaderboard.board.build import build
from worlds import backdoor_record


def rows(records):
    """Merger -> its row, in the board's order."""
    (suite,) = build(records).of(BackdoorBoard)
    return {row.defense: row for row in suite.mergers}


def world(**kept):
    """Mergers that met two attacks, with their clean scores."""
    return [
        backdoor_record(attack=attack, defense=merger, asr=0.9, kept=score)
        for merger, score in kept.items()
        for attack in ("badnets", "trojvit", None)
    ]


def test_who_met_fewer_attacks_is_shown_and_not_ranked():
    lucky = backdoor_record(attack="badnets", defense="ties", asr=0.1, kept=0.8)
    found = rows([*world(average=0.8), lucky])
    assert list(found) == ["average", "ties"]
    assert found["average"].rank == 1
    assert found["ties"].rank is None
    assert found["ties"].worst_asr.mean < found["average"].worst_asr.mean
    assert found["ties"].unranked_because.startswith("not evaluated against 1 of 2 attacks: trojvit on animals+")


def test_who_is_not_ranked_does_not_set_the_best_score():
    brilliant = backdoor_record(attack="badnets", defense="ties", asr=0.1, kept=0.99)
    assert rows([*world(average=0.8), brilliant])["average"].rank == 1
    assert rows([*world(average=0.8, ties=0.99)])["average"].unranked_because == "clean score 19.0 points below"


def test_evidence_that_came_later_unranks_nobody():
    later = backdoor_record(attack="adaptive", defense="ties", asr=1.0, kept=0.8, round=1)
    found = rows([*world(average=0.8, ties=0.8), later])
    assert (found["average"].rank, found["ties"].rank) == (1, 2)
    assert found["ties"].worst_asr.mean == 1
