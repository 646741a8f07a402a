"""`convscale predict`: the time of networks on a device that need not be at hand."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.profiles import no_profile
from convscale.cli.values import optional_whole_number, report_file, share, whole_number
from convscale.quantities import parse_resolution


def predict(
    networks: options.Networks,
    profile: options.Profile = None,
    batch_size: options.BatchSize = "1",
    resolution: options.Resolution = None,
    coverage: options.Coverage = "0.9",
    csv: options.PredictionCsv = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Predict the time of a batch by a device profile, with its interval; nothing is run.

    Example:
        >>> predict(["resnet18"], batch_size="0", profile="any")
        Traceback (most recent call last):
        convscale.errors.InputError: The batch size is 0; it must be at least 1.
    """
    if profile is None:
        raise no_profile("A prediction needs a profile")
    batch = whole_number(batch_size, what="batch size")
    side = None if resolution is None else parse_resolution(resolution)
    level = share(coverage, what="coverage")
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    file = None if csv is None else report_file(csv, example="--csv predictions.csv")

    from convscale.files import write_whole
    from convscale.prediction.prediction import document_of, frame_of
    from convscale.prediction.store import profile_of
    from convscale.report.predictions import predictions_table
    from convscale.scaling import predict as predict_network

    given = profile_of(profile)
    given.factors(level)  # refused before networks are traced
    found = [
        predict_network(
            network,
            profile=given,
            batch_size=batch,
            resolution=side,
            coverage=level,
            num_classes=classes,
            in_chans=channels,
        )
        for network in networks
    ]
    if file is not None:
        write_whole(file, frame_of(found).to_csv(index=False, lineterminator="\n"))
    if json:
        return document_of(found)
    written = [] if file is None else [f"Table: {file}"]
    return [predictions_table(found, given), *written]
