"""A suite whose models are two-dozen-unit BERTs with random weights, for what must run on token ids, too."""

import torch

from mergearena.bench.suites.initial import initial_weights
from tiny_suite import TinySuite, randomized


class TokenSuite(TinySuite):
    """Texts of up to nine tokens, padded with zeros on the right."""

    name = "tokens"

    def load(self, task, split):
        generator = torch.Generator().manual_seed(ord(task) + len(split))
        ids = torch.randint(1, 40, (20, 9), generator=generator)
        lengths = torch.randint(3, 10, (20, 1), generator=generator)
        return ids * (torch.arange(9) < lengths), torch.randint(3, (20,), generator=generator)

    def encoder(self):
        from conftest import bert

        with initial_weights(seed=0):
            return randomized(bert(), 0)

    def features(self, model, inputs):
        mask = inputs != 0
        hidden = model(input_ids=inputs, attention_mask=mask.long()).last_hidden_state * mask[..., None]
        return hidden.sum(1) / mask.sum(1, keepdim=True)

    def head(self, task):
        return torch.randn(3, 24, generator=torch.Generator().manual_seed(ord(task)))
