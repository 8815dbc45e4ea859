from etils import epath

from mdc_jax.report import probe_tables, tables


def test_csv_survives_a_round_trip(tmp_path):
    path = epath.Path(tmp_path) / "t.csv"
    tables.write_csv(path, ["name", "value"], [['a, "b"', 0.25], ["c", 3]])
    assert tables.read_csv(path) == [{"name": 'a, "b"', "value": "0.25"}, {"name": "c", "value": "3"}]


def test_markdown_columns_are_aligned_and_missing_cells_empty():
    text = tables.grid({("first", "x"): "1", ("second row", "y"): "22"})
    lines = text.splitlines()
    assert lines == [
        "|            | x | y  |",
        "|------------|---|----|",
        "| first      | 1 |    |",
        "| second row |   | 22 |",
    ]


def test_probe_tables_keep_bound_families_apart_and_secondary_metrics_out():
    base = {"row": "trained encoder", "value": 0.9, "low": 0.8, "high": 0.95}
    text = probe_tables.markdown(
        [
            base | {"family": "pair", "bound": "1", "features": "flattened", "metric": "auc"},
            base | {"family": "shape", "bound": "0", "features": "pooled", "metric": "auc"},
            base | {"family": "shape", "bound": "0", "features": "pooled", "metric": "balanced_accuracy"},
        ]
    )
    unbound, bound = text.split("## ")[1:]
    assert "shape (auc)" in unbound and "pair" not in unbound and "balanced" not in text
    assert "| trained encoder, flattened | 0.900 [0.800, 0.950] |" in bound
