"""An aligner whose numbers fail gets a second trial, and what it made first stands if that ends no better."""

import warnings

import pytest
import torch

from mergearena import attacks
from mergearena.bench.errors import ArenaWarning, RankWarning
from mergearena.bench.games.protection.alignment import aligned
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.players.registry import registry

KEY = "proj"


@pytest.fixture
def trials(registering):
    """Registers an aligner of that body, and lists the dtypes of the models that it was given."""
    seen = []

    def register(body, **traits):
        @attacks.aligner("tried", **{"cost": "algebra", **traits})
        def tried(released, view):
            """An aligner."""
            seen.append((released[KEY].dtype, view.base[KEY].dtype))
            return body(released, view)

        return registry.find("tried", "align")()

    register.seen = seen
    return register


def overflowing(released, view):
    """Right in float64 alone."""
    return {**released, KEY: (1e30 * released[KEY]) * 1e30 / 1e30 / 1e30}


def test_a_sound_aligner_runs_once(trials, attacker):
    view = attacker()
    aligner = trials(lambda released, view: {**released, KEY: -released[KEY]})
    assert torch.equal(aligned(aligner, view.released, view)[KEY], -view.released[KEY])
    assert trials.seen == [(torch.float32, torch.float32)]


def test_overflow_is_tried_again_in_float64_and_comes_back_in_float32(trials, attacker):
    view = attacker()
    found = aligned(trials(overflowing), view.released, view)
    torch.testing.assert_close(found, view.released)
    assert trials.seen == [(torch.float32, torch.float32), (torch.float64, torch.float64)]
    assert view.released[KEY].dtype == torch.float32


def test_who_runs_the_model_stays_in_its_precision(trials, attacker):
    view = attacker()
    found = aligned(trials(overflowing, cost="forward"), view.released, view)
    assert not found[KEY].isfinite().any()
    assert trials.seen == [(torch.float32, torch.float32)] * 2


@pytest.mark.parametrize("error", [torch.linalg.LinAlgError, ValueError])
def test_an_error_that_stays_is_raised(trials, attacker, error):
    def fails(released, view):
        raise error("singular")

    view = attacker()
    with pytest.raises(error, match="singular"):
        aligned(trials(fails), view.released, view)
    assert len(trials.seen) == (1 if error is ValueError else 2)


def test_a_rank_warning_leads_to_a_second_trial_whose_warnings_alone_are_told(trials, attacker):
    def body(released, view):
        narrow = released[KEY].dtype == torch.float32
        warnings.warn("narrow" if narrow else "wide", RankWarning if narrow else ArenaWarning, stacklevel=1)
        return dict(released)

    view = attacker()
    with pytest.warns(ArenaWarning) as caught:
        aligned(trials(body), view.released, view)
    assert [str(warning.message) for warning in caught] == ["wide"]


def test_what_stays_rank_deficient_is_the_first_trial_s(trials, attacker):
    def body(released, view):
        warnings.warn(str(released[KEY].dtype), RankWarning, stacklevel=1)
        return {**released, KEY: released[KEY] + len(trials.seen)}

    view = attacker()
    with pytest.warns(RankWarning) as caught:
        found = aligned(trials(body), view.released, view)
    assert [str(warning.message) for warning in caught] == ["torch.float32"]
    torch.testing.assert_close(found[KEY], view.released[KEY] + 1)


def test_a_head_of_zeros_is_still_told_of(attacker):
    """The one case that no scale mends."""
    view = attacker()
    group = view.architecture.attentions[0]
    released = {key: value.clone() for key, value in view.released.items()}
    for side in (group.q, group.k):
        rows = side.read(released)
        rows[0] = 0
        side.write(released, rows)
    with pytest.warns(RankWarning, match="1 rank-deficient heads keep their gauge"):
        parse_attack("gauge-anchor > average").run(attacker(released))
