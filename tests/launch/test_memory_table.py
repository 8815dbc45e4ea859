"""The table of dry compiles in launch/README.md is that of configs/results/dry_compile.csv."""

import re

from etils import epath

from mdc_jax.report import tables
from tests.launch.fakes import ROOT

README = (ROOT / "launch" / "README.md").read_text()
ROWS = tables.read_csv(epath.Path(ROOT / "configs" / "results" / "dry_compile.csv"))


def cells(row: dict[str, str]) -> list[str]:
    """A row of the CSV file as the README writes it."""
    config = re.match(r"--config=configs/(\S+)", row["command"])[1]
    memory = f"{int(row['peak_bytes']) / 1e9:.2f}"
    of = f" of {int(row['capacity_bytes']) / 1e9:.1f} GB" if row["capacity_bytes"] else " GB, a CPU's"
    sent, least = (int(row[name]) / 1e6 for name in ("sent_bytes", "least_bytes"))
    return [
        *(f"`{config}`", row["topology"], row["mesh"], row["batch_size"], row["remat"], memory + of, row["step_flops"]),
        *(f"{sent:,.0f} / {least:,.0f} MB", f"{row['compile_seconds']} s", row["verdict"]),
    ]


def test_every_row_is_that_of_the_file() -> None:
    header = "| config | chips | mesh | images a step | remat | memory a chip "
    table = README[README.index(header) :].partition("\n\n")[0].splitlines()[2:]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert shown == [cells(row) for row in ROWS]


def test_the_command_of_every_row_is_given() -> None:
    given = re.findall(r"^    python -m mdc_jax\.main (--config=\S+ (?:.* )?--dry_compile=\S+)$", README, re.MULTILINE)
    assert sorted(given) == sorted(row["command"] for row in ROWS)


def test_every_shipped_config_is_there() -> None:
    shipped = {path.name for path in (ROOT / "configs").glob("*.py") if not path.name.startswith("compare_")}
    assert {re.match(r"--config=configs/(\w+\.py)", row["command"])[1] for row in ROWS} == shipped
