"""The families of models whose symmetries are known, one file each.

A family knows its *layer* (one MLP and one attention) and its *ends* (what writes the residual stream first and reads
it last). No family looks at a model's class: what counts is which tensors there are and what reads them.
"""

from mergearena.bench.symmetry.families import bert, llama, open_clip
from mergearena.bench.symmetry.families.parts import Ends, Family, Layer, residual_of, shifts_of

FAMILIES = {
    "open_clip": Family(open_clip.layer, open_clip.ends),
    "bert": Family(bert.layer, bert.ends),
    "llama": Family(llama.layer, llama.ends),
}

__all__ = ["FAMILIES", "Ends", "Family", "Layer", "residual_of", "shifts_of"]
