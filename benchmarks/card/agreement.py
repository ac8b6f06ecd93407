"""Do the studio's lanes say what stock PEFT says? Logits and greedy tokens, each step after the same words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.card.figure import Check

# Two tokens are nearly tied where they are this close, in standard deviations of the logits. bf16 keeps three digits,
# and its rounding adds up: with twelve layers of Phi-3-mini's width PEFT's logits have a cosine of 0.99936 to
# float32's, ours of 0.99941, and the one to the other 0.99948; with all 32 it is 0.9988, or 0.05 deviations a logit.
TIED = {"fp32": 1e-3, "bf16": 0.25, "nf4": 0.25}
LEAST_COSINE = {"fp32": 0.99999, "bf16": 0.998, "nf4": 0.998}


@dataclass(frozen=True)
class Agreement:
    """Of all lanes and steps: the least cosine of both logits, the largest difference in standard deviations, and how
    many greedy tokens were the same, of those where PEFT's two likeliest weren't nearly tied. `captured`: whether the
    lanes' steps were replayed, as on a card; None where nothing is.
    """

    precision: str
    cosine: float
    difference: float
    same: int
    firm: int
    steps: int
    captured: bool | None = None

    def check(self) -> Check:
        """Whether the lanes may be believed."""
        words = (f"logits' cosine to stock PEFT's ≥ {self.cosine:.6f}; {self.same} of {self.firm} greedy tokens the "
                 f"same ({self.steps - self.firm} of {self.steps} nearly tied)")
        if self.captured is not None:
            words += ", in captured steps" if self.captured else ", in steps that could not be captured"
        return Check(words, self.cosine >= LEAST_COSINE[self.precision] and self.same == self.firm)


def agreement(base: Any, folders: Sequence[Path], question: str, tokens: int) -> Agreement:
    """PEFT answers with each adapter alone; the lanes then say what they would have said after each of its words."""
    import torch
    from torch.nn import functional

    from phi3.template import encode_prompt

    prompt = encode_prompt(base.tokenizer, [{"role": "user", "content": question}])
    with torch.inference_mode():
        said = [_by_peft(base, folder, prompt, tokens) for folder in folders]
        theirs = torch.stack([logits for _, logits in said])
        ours, captured = _by_lanes(base, folders, prompt, [words for words, _ in said])
        spread = theirs.std()
        both = theirs.topk(2, dim=-1).values
        firm = (both[..., 0] - both[..., 1]) > TIED[base.precision] * spread
        same = (ours.argmax(-1) == theirs.argmax(-1)) & firm
        return Agreement(base.precision, float(functional.cosine_similarity(ours, theirs, dim=-1).min()),
                         float((ours - theirs).abs().max() / spread), int(same.sum()), int(firm.sum()), firm.numel(),
                         captured)


def _by_peft(base: Any, folder: Path, prompt: list[int], tokens: int) -> tuple[list[int], Any]:
    """(the greedy tokens, and the logits (tokens, vocabulary) that each was drawn from, in one forward pass)."""
    import torch
    from peft import PeftModel

    from phi3.models import shell_of

    shell = shell_of(base)
    shell.generation_config.eos_token_id = None
    model = PeftModel.from_pretrained(shell, str(folder), is_trainable=False, autocast_adapter_dtype=False).eval()
    ids = torch.tensor([prompt], device=base.model.device)
    made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
    logits = model(input_ids=made[:, :-1]).logits[0, len(prompt) - 1:].float()
    return made[0, len(prompt):].tolist(), logits


def _by_lanes(base: Any, folders: Sequence[Path], prompt: list[int],
              words: Sequence[list[int]]) -> tuple[Any, bool | None]:
    """Logits (lanes, tokens, vocabulary) of all lanes in one batch, each led along these words, and whether its steps
    were captured.
    """
    import torch

    from phi3.captured import capture_on
    from phi3.decoder import Decoder
    from phi3.slots import Mix, Slots

    slots = Slots(base, len(folders))
    decoder = Decoder(slots.model, capture_on(base.model.device))
    mix = Mix(tuple(slots.load(folder, folder) for folder in folders), (1.0,) * len(folders))
    slots.use(mix)
    found = [decoder.read([prompt] * len(folders))]
    slots.use(mix, stays=decoder.captures_steps_of(len(folders)))
    for place in range(len(words[0]) - 1):
        found.append(decoder.step([said[place] for said in words], slots.form).clone())
    return torch.stack(found, 1).float(), None if decoder.captures is None else len(decoder.captures) > 0
