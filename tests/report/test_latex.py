import re

from mdc_jax.report import latex


def test_a_table_has_the_rules_of_booktabs_and_a_line_for_each_row():
    text = latex.table(["", "a_b", "c"], [["x & y", "1", "50%"], ["z", "", "2"]], "All of it", "tab:all")
    lines = text.splitlines()
    assert r"\begin{tabular}{lrr}" in lines and r"\label{tab:all}" in lines
    body = lines[lines.index(r"\toprule") + 1 : lines.index(r"\bottomrule")]
    assert body == [r" & a\_b & c \\", r"\midrule", r"x \& y & 1 & 50\% \\", r"z &  & 2 \\"]
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", text) == ["table", "tabular", "tabular", "table"]


def test_letters_that_latex_reads_as_commands_are_written_out():
    assert latex.escape(r"\a{b}^~") == r"\textbackslash{}a\{b\}\textasciicircum{}\textasciitilde{}"
    assert latex.escape("1 ± 2") == r"1 $\pm$ 2"
