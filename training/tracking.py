"""Trackers that a run reports to besides its own events: those that transformers knows, if they are installed."""

from __future__ import annotations

from training.config import RunConfig

# Packages that are named otherwise than transformers' integration.
_PACKAGES = {"azure_ml": "azureml-mlflow", "comet_ml": "comet-ml"}


def demand_trackers(config: RunConfig) -> None:
    """ValueError where a tracker that `report_to` names isn't installed here."""
    names = config.trackers()
    if not names:
        return
    from transformers.integrations import integration_utils

    there = integration_utils.get_available_reporting_integrations()
    absent = [name for name in names if name not in there]
    if absent:
        package = _PACKAGES.get(absent[0], absent[0])
        raise ValueError(f"report_to names {absent[0]}, and its package isn't installed here. Install it (pip install "
                         f"{package}), or set report_to to none: the run's own curves don't need it.")
