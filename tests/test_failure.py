"""What went wrong is a sentence with advice; an out-of-memory is held against the plan."""

from dataclasses import replace

import pytest
import torch

from phi3.machine import GIBIBYTE, Machine
from training.config import RunConfig
from training.failure import OutOfMemory, against_plan, explained
from training.plan import make_plan

MINI = {"num_hidden_layers": 32, "hidden_size": 3072, "num_attention_heads": 32, "num_key_value_heads": 32,
        "intermediate_size": 8192, "vocab_size": 32064, "tie_word_embeddings": False}
CARD = Machine("cuda", "H100", 16, 128.0, card_memory=79.0)
ON_A_CARD = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.20 GiB is free."
    " Including non-PyTorch memory, this process has 77.90 GiB memory in use.")
ON_A_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                        "tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)")


def plan_of(config: RunConfig):
    return make_plan(config, MINI, [min(700, config.max_length)] * 64, [], CARD)


def raised(problem: BaseException, held: int = 76 * GIBIBYTE, config: RunConfig | None = None) -> dict:
    """The values of the failure that this becomes."""
    with pytest.raises(OutOfMemory) as caught, against_plan(config or RunConfig(bf16=True), plan_of, lambda: held):
        raise problem
    failure = explained(caught.value)
    assert failure.mendable and caught.value.__cause__ is problem
    return {"message": failure.message, "advice": failure.advice, **failure.told}


def test_a_card_without_memory_is_held_against_the_plan_and_one_change_is_named():
    told = raised(ON_A_CARD)
    assert told["planned_peak_bytes"] == plan_of(RunConfig(bf16=True)).peak
    assert told["asked_bytes"] == 2 * GIBIBYTE and told["free_bytes"] == int(1.2 * GIBIBYTE)
    assert "held 76.0 GB and asked for 2.0 GB more" in told["message"]
    assert told["changes"] == {"gradient_checkpointing": True}
    assert told["advice"] == "Change this and start again: Gradient checkpointing: off → on."


def test_what_is_named_makes_the_plan_smaller_by_what_was_missing():
    config = RunConfig(bf16=True, gradient_checkpointing=True)
    told = raised(ON_A_CARD, held=10 * GIBIBYTE, config=config)
    assert plan_of(replace(config, **told["changes"])).peak < plan_of(config).peak * 10 / 12


def test_a_run_that_never_fitted_is_told_what_does_and_not_what_was_missing_at_first():
    config = RunConfig(bf16=True, per_device_train_batch_size=1024, max_length=2048, gradient_checkpointing=True)

    def long_rows(config: RunConfig):
        return make_plan(config, MINI, [min(2047, config.max_length)] * 1024, [], CARD)

    with pytest.raises(OutOfMemory) as caught, against_plan(config, long_rows, lambda: 78 * GIBIBYTE):
        raise ON_A_CARD
    assert not long_rows(config).fits
    assert long_rows(replace(config, **caught.value.failure.told["changes"])).fits


def test_a_processor_without_memory_is_told_from_other_errors_by_torchs_words():
    assert raised(ON_A_CPU)["asked_bytes"] == 4 * GIBIBYTE
    with pytest.raises(RuntimeError, match="shapes"), against_plan(RunConfig(), plan_of, lambda: 1):
        raise RuntimeError("shapes don't match")


@pytest.mark.parametrize("said", [
    "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the documentation.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "Triton Error [CUDA]: out of memory"])
def test_a_card_that_is_too_full_for_cudas_own_libraries_has_no_memory_either(said):
    assert "ran out of memory" in raised(RuntimeError(said))["message"]
    assert explained(torch.AcceleratorError(said)).mendable


def test_pythons_own_error_says_nothing_of_sizes_and_a_change_is_named_all_the_same():
    told = raised(MemoryError())
    assert told["asked_bytes"] is None and told["changes"] and "asked for" not in told["message"]


def test_where_nothing_is_enough_that_is_said():
    told = raised(ON_A_CARD, held=GIBIBYTE // 100)
    assert told["changes"] == {} and told["advice"].startswith("No change of the settings is enough")


def test_memory_that_runs_out_before_there_is_a_plan_is_a_sentence_too():
    assert "before the training began" in explained(MemoryError()).message


@pytest.mark.parametrize("numbers", (1, 5000))
def test_a_disk_that_is_full_when_torch_writes_to_it_is_a_sentence(numbers):
    with pytest.raises(RuntimeError) as caught:
        torch.save({"exp_avg": torch.zeros(numbers)}, "/dev/full")
    failure = explained(caught.value)
    assert failure.mendable and failure.message.startswith("The disk is full")
