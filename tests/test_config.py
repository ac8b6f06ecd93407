"""Settings: declared once, converted, checked, and printed as the recipe's two dictionaries."""

import pytest

from training.config import SETTINGS, TRACKERS, RunConfig, converted, in_digits


def test_every_setting_has_a_label_a_help_and_limits_or_choices():
    for setting in SETTINGS.values():
        assert setting.label and setting.help.endswith((".", ")")), setting.name
        if setting.type in (int, float):
            assert setting.minimum <= setting.default <= setting.maximum, setting.name


def test_the_two_dictionaries_are_what_trl_and_peft_take():
    from peft import LoraConfig
    from trl import SFTConfig

    config = RunConfig.from_settings({"learning_rate": "1e-3", "target_modules": "qkv_proj,o_proj"})
    arguments = SFTConfig(output_dir="unused", use_cpu=True, **config.training_config())
    lora = LoraConfig(**config.peft_config())
    assert arguments.learning_rate == 1e-3
    assert lora.target_modules == {"qkv_proj", "o_proj"} and lora.task_type == "CAUSAL_LM"


def test_a_config_survives_its_yaml():
    import yaml

    config = RunConfig.from_settings({"r": 8, "method": "qlora", "name": "mine", "bf16": True})
    assert RunConfig.from_settings(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize(("given", "said"), [
    ({"r": 0}, "Rank (r) is 0, and must be between 1 and 512."),
    ({"seed": -1}, "Seed is -1, and must be between 0 and 4,294,967,295."),
    ({"learning_rate": 5}, "Learning rate is 5, and must be between 1e-07 and 0.1."),
    ({"learning_rate": "fast"}, "Learning rate is 'fast', and must be a number."),
    ({"num_train_epochs": float("nan")}, "Epochs (num_train_epochs) is nan, and must be a number."),
    ({"r": 1.5}, "Rank (r) is 1.5, and must be a whole number."),
    ({"r": True}, "Rank (r) is True, and must be a whole number."),
    ({"max_steps": 0}, "Steps at most (max_steps) is 0, and would train nothing. Use -1 to train by epochs."),
    ({"method": "full"}, "Method is 'full', and must be one of: lora, qlora, loralib."),
    ({"bf16": "perhaps"}, "bf16 is 'perhaps', and must be true or false."),
    ({"lerning_rate": 1}, "There is no setting named lerning_rate. Did you mean learning_rate?"),
    ({"zzz": 1}, "There is no setting named zzz. See `python -m training run --help` for the list."),
])
def test_a_setting_out_of_its_range_is_refused_in_a_sentence(given, said):
    with pytest.raises(ValueError) as refusal:
        RunConfig.from_settings(given)
    assert str(refusal.value) == said


def test_a_layer_that_phi3_has_not_is_named():
    with pytest.raises(ValueError, match="qkv_proj, o_proj, gate_up_proj, down_proj"):
        RunConfig.from_settings({"target_modules": "q_proj"})


def test_the_recipes_warmup_ratio_is_translated():
    assert RunConfig.from_settings({"warmup_ratio": 0.2}).warmup_steps == 0.2


def test_steps_at_most_reach_trl_only_when_set():
    assert "max_steps" not in RunConfig().training_config()
    assert RunConfig.from_settings({"max_steps": 7}).training_config()["max_steps"] == 7


def test_dora_and_rslora_reach_peft():
    from peft import LoraConfig

    lora = LoraConfig(**RunConfig.from_settings({"use_dora": True, "use_rslora": "yes"}).peft_config())
    assert lora.use_dora and lora.use_rslora and not LoraConfig(**RunConfig().peft_config()).use_dora


def test_what_was_given_is_converted_and_the_rest_left_out():
    assert converted({"r": "8", "bf16": "no", "warmup_ratio": 0.2, "name": None}) == {
        "r": 8, "bf16": False, "warmup_steps": 0.2}


@pytest.mark.parametrize(("given", "passed"), [("none", "none"), ("", "none"), ("trackio", ["trackio"]),
                                               ("tensorboard, wandb", ["tensorboard", "wandb"])])
def test_trackers_reach_trl_by_transformers_names(given, passed):
    config = RunConfig.from_settings({"report_to": given, "name": "captain"})
    assert config.training_config()["report_to"] == passed
    assert config.training_config().get("run_name") == ("captain" if passed != "none" else None)


@pytest.mark.parametrize(("value", "words"), [
    (1.6667, "1.67"), (75, "75"), (0.0333, "0.0333"), (999.7, "1,000"), (2000.0, "2,000"), (12686, "12,686")])
def test_a_large_number_is_written_out(value, words):
    assert in_digits(value, 3) == words


def test_a_tracker_that_transformers_does_not_know_is_named():
    with pytest.raises(ValueError, match="report_to is 'tensorbord', and must be none, or of these: azure_ml"):
        RunConfig.from_settings({"report_to": "tensorbord"})


def test_our_trackers_are_those_of_the_installed_transformers():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(TRACKERS) == INTEGRATION_TO_CALLBACK.keys() - {"flyte", "kubeflow"}
