"""Meters agree with closed forms."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mergearena.bench.games.metering import forward_flops, metered

B, WIDTHS = 5, (7, 11, 3, 2)
FORWARD = sum(2 * B * n_in * n_out for n_in, n_out in pairwise(WIDTHS))


@pytest.fixture
def stack():
    """Linear layers only: 7 -> 11 -> 3 -> 2."""
    return nn.Sequential(*(nn.Linear(n_in, n_out, bias=False) for n_in, n_out in pairwise(WIDTHS)))


@pytest.fixture
def fast_path():
    """The fast path on, as PyTorch has it, and back as it was afterwards."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(True)
    yield torch.backends.mha.get_fastpath_enabled
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (3, 5, 7), (16, 2, 9)])
def test_a_matrix_product_takes_2mnk(m, k, n):
    with metered() as cost:
        torch.ones(m, k) @ torch.ones(k, n)
    assert cost.flops == 2 * m * k * n


def test_work_outside_the_block_is_not_counted():
    torch.ones(3, 3) @ torch.ones(3, 3)
    with metered() as cost:
        torch.ones(3)
    torch.ones(3, 3) @ torch.ones(3, 3)
    assert cost.flops == 0
    assert cost.gradient_steps == 0


@pytest.mark.parametrize("needs_input_gradient", [True, False])
def test_a_training_step_takes_three_forwards(stack, needs_input_gradient):
    inputs = torch.ones(B, WIDTHS[0], requires_grad=needs_input_gradient)
    with metered() as forward, torch.no_grad():
        stack(inputs)
    with metered() as step:
        stack(inputs).sum().backward()
    assert forward.flops == FORWARD
    # Nothing lies before the first layer, so its input's gradient is not computed unless it is wanted.
    spared = 0 if needs_input_gradient else 2 * B * WIDTHS[0] * WIDTHS[1]
    assert step.flops == 3 * FORWARD - spared


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_gradient_steps_are_counted_for_every_optimizer(stack, kind):
    optimizer = kind(stack.parameters(), lr=0.1)
    with metered() as cost:
        for _ in range(4):
            stack(torch.ones(B, WIDTHS[0])).sum().backward()
            optimizer.step()
    optimizer.step()
    assert cost.gradient_steps == 4


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_counted_on_the_cpu_forward_and_backward(heads):
    batch, length, width = 2, 6, 8
    q, k, v = (torch.randn(batch, heads, length, width, requires_grad=True) for _ in range(3))
    with metered() as forward, torch.no_grad():
        F.scaled_dot_product_attention(q, k, v)
    with metered() as both:
        F.scaled_dot_product_attention(q, k, v).sum().backward()
    assert forward.flops == 2 * (2 * batch * heads * length * length * width)  # scores, then values
    assert both.flops == 3.5 * forward.flops  # backward: the scores again and four products


def test_the_fast_path_hides_nothing(fast_path):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    inputs = torch.randn(3, 5, 8)
    with metered() as fast, torch.inference_mode():
        layer(inputs)
    with metered() as slow:
        layer(inputs.requires_grad_())
    tokens = 3 * 5
    assert fast.flops == slow.flops == 2 * tokens * (4 * 8 * 8 + 2 * 8 * 16) + 4 * 3 * 5 * 5 * 8


def test_meters_nest_and_restore_the_fast_path(fast_path):
    square = torch.ones(3, 3)
    with metered() as outer:
        square @ square
        with metered() as inner:
            square @ square
        assert not fast_path()
        square @ square
    assert fast_path()
    assert (inner.flops, outer.flops) == (54, 3 * 54)
    assert outer.wall_seconds >= inner.wall_seconds


def test_a_block_that_raises_is_metered_and_cleaned_up(stack, fast_path):
    inputs = torch.ones(B, WIDTHS[0])
    with pytest.raises(ZeroDivisionError), metered() as cost:
        stack(inputs).sum().item() / 0
    assert cost.flops == FORWARD
    assert fast_path()
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    optimizer.step()
    assert cost.gradient_steps == 0


def test_the_other_meters_run():
    with metered() as cost:
        torch.randn(200, 200).svd()
    assert cost.wall_seconds > 0
    assert cost.cpu_seconds > 0
    assert cost.peak_host_bytes > 2**20


def test_products_that_add_in_place_count_like_others():
    x, y = torch.randn(3, 4), torch.randn(4, 5)
    a, b = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    for in_place, product in (
        (lambda: torch.zeros(3, 5).addmm_(x, y), lambda: x @ y),
        (lambda: torch.zeros(2, 3, 5).baddbmm_(a, b), lambda: a @ b),
    ):
        with metered() as ours:
            in_place()
        with metered() as plain:
            product()
        assert ours.flops == plain.flops > 0


def test_a_forward_pass_is_not_charged_for_the_head_it_needs_first(tiny):
    class Thrifty(type(tiny)):
        """Computes a head with a matrix product, once."""

        known = None

        def head(self, task):
            if self.known is None:
                self.known = torch.eye(500) @ torch.zeros(500, 12)
            return self.known[:3]

    assert forward_flops(Thrifty()) == forward_flops(tiny)
