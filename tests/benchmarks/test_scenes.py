"""The cost of what is drawn on demand."""

from mdc_jax.benchmarks import scenes


def test_any_source_can_be_named(monkeypatch, capsys):
    monkeypatch.setattr(scenes, "_IMAGES", 5)
    scenes.main(["scenes:train,size=32"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["images/s", "ms", "source"]
    rate, milliseconds, spec = line.split()
    assert spec == "scenes:train,size=32"
    assert abs(float(rate.replace(",", "")) * float(milliseconds) - 1_000) < 100
