"""Both ways of the recipe reach the same: loralib's own layers and PEFT's, on the pirate example."""

import pytest

from adapters.library import Library
from phi3.machine import this_machine
from phi3.models import EMBEDDED, base_facts
from training.config import RunConfig
from training.data import read_data
from training.examples import measures
from training.presets import recommended
from training.runs import Runs

pytestmark = pytest.mark.slow

UNSEEN = 24
SEED = 20_000  # far from the seeds that the example data was drawn with


def learned(home, method):
    """(held-out loss, share of unseen prompts answered like a pirate) of a run at the default settings."""
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.models import load_base
    from training.train import run_lease

    suited = recommended(base_facts(EMBEDDED).config, this_machine())
    config = RunConfig.from_settings({**suited, "method": method, "name": method, "eval_steps": 1000, "seed": 42})
    end = run_lease(Runs(home).create(config, read_data("pirate")))
    assert end.type == "finished" and end.values["loss"] < end.values["loss_before"]
    prompts = measures.prompts("pirate", UNSEEN, SEED)
    folder = str(Library(home).get(method).folder)
    lanes = [Lane(one.messages, folder, Sampling(max_new_tokens=64)) for one in prompts]
    *_, answers = Answerer(load_base(EMBEDDED)).answer(lanes)
    return end.values["loss"], sum(measures.manner_shown("pirate", one.text) for one in answers) / UNSEEN


def test_a_loralib_run_of_the_pirate_reaches_what_the_peft_run_reaches(home):
    (peft, peft_manner), (loralib, loralib_manner) = (learned(home, method) for method in ("lora", "loralib"))
    print(f"held-out loss {peft:.4f} with PEFT, {loralib:.4f} with loralib; manner {peft_manner:.0%}, "
          f"{loralib_manner:.0%}")
    assert loralib == pytest.approx(peft, rel=0.05)
    assert peft_manner >= 0.8 and loralib_manner >= peft_manner - 0.1
