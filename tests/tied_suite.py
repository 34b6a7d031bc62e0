"""A toy decoder whose head is its embedding, which state dicts hold under both names."""

from mergearena.bench.submit import toys

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class TiedSuite(toys.Llama):
    """The toy of Llama's family, tied."""

    name = "tied"

    def untrained(self):
        import transformers

        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**toys._DECODER, tie_word_embeddings=True))

    def finetuned(self, task):
        state = super().finetuned(task)
        return {**state, HEAD: state[EMBEDDING].clone()}
