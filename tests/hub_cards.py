"""What a Hub reads out of a model card: its YAML, what is wrong with that, and the tags that follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Of the Hub's own list of licences, those that the tests use.
LICENCES = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "openrail", "other", "unknown"}


def card_data(text: str) -> dict[str, Any] | None:
    """The YAML block of a card; None where there is none. yaml.YAMLError where it can't be read."""
    found = re.match(r"\s*---[\r\n]+(.*?)[\r\n]+---([\r\n]|$)", text, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def complaints(text: str) -> list[str]:
    """What the Hub has against a card's YAML."""
    try:
        data = card_data(text)
    except yaml.YAMLError as problem:
        return [f"YAML can't be read: {str(problem).splitlines()[0]}"]
    if data is None:
        return []
    if not isinstance(data, dict):
        return ["metadata must be an object"]
    wrong = [f'"{name}" must be a string' for name in ("license", "library_name", "pipeline_tag", "license_name",
                                                       "base_model_relation")
             if name in data and not isinstance(data[name], str)]
    wrong += [f'"{name}" must be a string or a list of strings' for name in ("tags", "language", "datasets",
                                                                             "base_model")
              if name in data and not all(isinstance(one, str) for one in listed(data[name]))]
    wrong += [f'"{name}" with value "{one}" is not valid' for name in ("datasets", "base_model")
              for one in listed(data.get(name)) if isinstance(one, str) and not HUB_ID.fullmatch(one)]
    if data.get("license", "mit") not in LICENCES:
        wrong.append(f'"license" must be one of {sorted(LICENCES)}')
    if data.get("license") == "other" and "license_name" not in data:
        wrong.append('"license_name" is required where "license" is other')
    if data.get("base_model_relation", "adapter") not in ("adapter", "finetune", "merge", "quantized"):
        wrong.append('"base_model_relation" must be one of adapter, finetune, merge, quantized')
    return wrong + about_results(data.get("model-index", []))


def about_results(index: Any) -> list[str]:
    """What the Hub has against a card's model-index."""
    try:
        for model in index:
            if not isinstance(model["name"], str) or not model["results"]:
                return ['"model-index[0].name" and "results" are required']
            for result in model["results"]:
                metrics = result["metrics"]
                if not (result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"] and metrics
                        and all(isinstance(one["type"], str) and one["value"] is not None for one in metrics)):
                    return ['"model-index[0].results[0]" is not complete']
    except (KeyError, TypeError) as problem:
        return [f'"model-index" lacks {problem}']
    return []


def listed(value: Any) -> list[Any]:
    """A list, or the one thing that stands where a list may stand."""
    return value if isinstance(value, list) else [] if value is None else [value]


def tags_of(card: Mapping[str, Any]) -> list[str]:
    """The tags that the Hub derives from a card."""
    tags = [*listed(card.get("library_name")), *listed(card.get("tags")), *listed(card.get("language"))]
    if "model-index" in card:
        tags.append("model-index")
    tags += [f"dataset:{one}" for one in listed(card.get("datasets"))]
    tags += [f"license:{one}" for one in listed(card.get("license"))]
    relation = card.get("base_model_relation") or ("adapter" if card.get("library_name") == "peft" else "finetune")
    for base in listed(card.get("base_model")):
        tags += [f"base_model:{base}", f"base_model:{relation}:{base}"]
    return [*dict.fromkeys(tags), *listed(card.get("pipeline_tag")), "region:us"]
