"""Many threads may ask one suite at once: each gets its own model's numbers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mergearena.bench.suites.initial import initial_weights
from regression_suite import RegressionSuite
from tiny_suite import TinySuite

THREADS = 4


def at_once(function, arguments):
    """The function's values, each computed in a thread of its own."""
    with ThreadPoolExecutor(len(arguments)) as threads:
        return [*threads.map(function, arguments)]


@pytest.mark.parametrize("kind", [TinySuite, RegressionSuite])
def test_each_thread_predicts_with_its_own_state(kind):
    loaded = threading.Barrier(THREADS, timeout=60)

    def wait(*_):
        loaded.wait()

    class Together(kind):
        """Runs no model before every thread has loaded its state."""

        batch_size = 1000

        def encoder(self):
            model = super().encoder()
            model.register_forward_pre_hook(wait)
            return model

    plain, suite = kind(), Together()
    states = [plain.base(), *(plain.finetuned(task) for task in "abc")]
    inputs = plain.probes(5, torch.Generator().manual_seed(0))
    for _ in range(2):  # in the second round nobody builds a model
        found = at_once(lambda state: suite.predict(state, "a", inputs), states)
        for state, outputs in zip(states, found, strict=True):
            assert torch.equal(outputs, plain.predict(state, "a", inputs))
    assert len(suite._idle) == THREADS
    assert not torch.equal(found[0], found[1])


def test_a_state_that_does_not_fit_leaves_the_next_one_unharmed(tiny):
    inputs = tiny.probes(3, torch.Generator().manual_seed(0))
    expected = tiny.predict(tiny.base(), "a", inputs)
    with pytest.raises(RuntimeError):
        tiny.predict({**tiny.finetuned("a"), "proj": torch.zeros(1)}, "a", inputs)
    assert torch.equal(tiny.predict(tiny.base(), "a", inputs), expected)


def test_initial_weights_are_drawn_by_one_thread_at_a_time():
    def draw(seed):
        with initial_weights(seed):
            first = torch.randn(())
            time.sleep(0.02)  # in which the others would draw
            return first.item(), torch.randn(()).item()

    before = torch.get_rng_state()
    assert at_once(draw, [0, 1, 0, 1]) == [draw(0), draw(1), draw(0), draw(1)]
    assert torch.equal(torch.get_rng_state(), before)
