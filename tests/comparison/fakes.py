"""The workdir of a comparison as its command leaves it, with numbers that are known."""

import json
import pathlib

from etils import epath

from mdc_jax.report import tables

STEPS = (50, 100)
SHAPE = {"mdc": (0.90, 0.91, 0.92), "ar": (0.80, 0.82, 0.81), "contrast": (0.95,)}
RELATION = {"mdc": (0.6, 0.7, 0.8), "ar": (0.6, 0.7, 0.8), "contrast": (0.7,)}
SIGNAL = {
    "mdc": {"first_third": 0.9, "last_third": 0.8, "last_less_first": -0.1},
    "ar": {"first_third": 1.5, "last_third": 0.9, "last_less_first": -0.6},  # more of it everywhere
}
RIGHT = {"mdc": (1, 0, 1, 0), "ar": (1, 0, 0, 0)}  # of the captions of four images, whatever the seed


def comparison(root: pathlib.Path) -> epath.Path:
    """Three seeds of a masked and an autoregressive entry, one of a contrastive one, and a decoder without images."""
    workdir = epath.Path(root)
    entries = [
        _entry("mdc", "masked_diffusion", blind="blind", tuning=_CHOICE),
        _entry("ar", "autoregressive"),
        _entry("contrast", "clip"),
        _entry("blind", "masked_diffusion", settings=["objective.null_image_rate=1.0"], control=True),
    ]
    runs = [
        ("blind", 0),
        *((name, seed) for seed in range(3) for name in ("mdc", "ar")),
        ("contrast", 0),
        ("contrast", 1),
    ]
    rows = []
    for entry, seed in runs[:-1]:
        rows += _lines(entry, seed)
        _files(workdir / "runs" / entry / f"seed{seed}", entry, seed)
    header = ("entry", "seed", "step", "examples", "flops", "seconds", "evaluator", "split", "metric", "value")
    tables.write_csv(workdir / "results.csv", header, rows)
    plan = {
        "config": "configs/fake.py",
        "base": "configs/fake_base.py",
        "notes": ["No controls <here>."],
        "budget": {"equal": "steps", "steps": 100},
        "evaluators": {
            "curve": {"every": "50 steps"},
            "probe": {"every": "end"},
            "position": {"blind_images": 16},
            "foils": {"blind_images": 16},
        },
        "entries": entries,
        "runs": [
            {"entry": entry, "seed": seed, "folder": f"runs/{entry}/seed{seed}", "command": f"train {entry}/seed{seed}"}
            for entry, seed in runs
        ],
        "code": {"commit": "c0ffee", "dirty": False},
        "hardware": {"devices": "2 x abacus"},
        "data": {"train": {"source": "scenes:train", "sha256": "12ab"}},
    }
    (workdir / "plan.json").write_text(json.dumps(plan))
    return workdir


_CHOICE = {"chosen": 0.001, "grid": {"0.0001": 0.5, "0.001": 0.75, "0.01": None}, "at_edge": False, "seeds": [1000]}


def _entry(name, objective, settings=(), blind="", tuning=None, control=False):
    rate = {"learning_rate": 0.001, "learning_rate_source": "tuned" if tuning else "recorded", "tuning": tuning}
    return {
        "name": name,
        "objective": objective,
        "settings": list(settings),
        "blind": blind,
        "control": control,
        "trained_steps": 100,
        **rate,
    }


def _lines(entry, seed):
    for step in STEPS:
        costs = [entry, seed, step, 10 * step, 1e6 * step, step / 4]
        found = [("held_out", "loss", 2.0)]
        if entry in SHAPE:
            found.append(("curve", "shape", SHAPE[entry][seed]))
            found += [("probe", "shape", SHAPE[entry][seed]), ("probe", "relation", RELATION[entry][seed])]
            found.append(("probe", "raw pixels/pooled/logistic/shape/auc", 0.5))
        if entry in RIGHT:
            found.append(("captions", "right", 0.5 if entry == "mdc" else 0.25))
            found += [("position", f"signal/{third}", value) for third, value in SIGNAL[entry].items()]
            found.append(("position", "gradient/last_less_first", 0.1))
            scorer = "elbo" if entry == "mdc" else "autoregressive"
            found += [("foils", f"replace_relation/{scorer}/accuracy", 0.75 - 0.1 * (entry == "ar") * seed)]
            found += [("foils", "replace_relation/another/accuracy", 0.125)]  # of several the first one counts
        for evaluator, metric, value in found:
            late = step == STEPS[-1]
            if late or evaluator != "probe":
                yield [*costs, evaluator, "test", metric, float(value) * (1 if late else 0.5)]


def _files(folder, entry, seed):
    def place(evaluator, name):
        path = folder / "evaluations" / str(STEPS[-1]) / evaluator / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    (folder / "results.json").parent.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"step": STEPS[-1], "results": {}}))
    if entry in SHAPE:
        common = {"features": "pooled", "probe": "logistic", "low": 0.4, "high": 0.99}
        lines = [
            {"family": family, "bound": bound, "row": row, "metric": metric, "value": value, **common}
            for family, bound, metric, trained in (
                ("shape", 0, "auc", SHAPE[entry][seed]),
                ("relation", 1, "accuracy", RELATION[entry][seed]),
            )
            for row, value in (("raw pixels", 0.5), ("trained encoder", trained))
        ]
        for evaluator, own in (("curve", lines[:2]), ("probe", lines)):
            tables.write_csv(place(evaluator, "probe.csv"), list(lines[0]), [list(line.values()) for line in own])
    if entry in RIGHT:
        lines = [{"id": i, "right": bool(right)} for i, right in enumerate(RIGHT[entry])]
        place("captions", "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        scorer = "elbo" if entry == "mdc" else "autoregressive"
        header = ("kind", "images", "scorer", "row", "prior", "exponent", "per", "metric", "value")
        rows = [
            ["replace_relation", 2, scorer, "model", "", 0, "caption", "accuracy", 0.75 - 0.1 * (entry == "ar") * seed],
            ["replace_relation", 2, scorer, "blind", "images", 0, "caption", "accuracy", 0.5],
            ["replace_relation", 2, scorer, "model", "images", 1, "caption", "accuracy", 0.7],
        ]
        tables.write_csv(place("foils", "foils.csv"), header, rows)
    if entry in RIGHT:
        rows = [[part, at, 1 - 0.1 * at, 2.0] for part in ("all", "0.8-1") for at in range(3)]
        header = ("masked_share", "position", "signal", "gradient")
        tables.write_csv(place("position", "position_signal.csv"), header, rows)
    if entry == "mdc":
        rows = [[0.5, 1.0 + seed], [1.0, 2.0 + seed]]
        tables.write_csv(place("bound", "masked_share.csv"), ("masked_share", "nats_per_token"), rows)
