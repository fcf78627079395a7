"""Texts of others are shown without effect on what they are shown in."""

import re

import pytest

from peftbench.system import escape


class TestEscape:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [("\x1b[2Jx", r"\x1b[2Jx"), ("a\nb\tc\r", "a b c "), ("\u202egnp", r"\u202egnp"), ("\x9b1m", r"\x9b1m"),
         ("\ud800", r"\ud800"), ("\u2028", r"\u2028"), ("हिन्दी 中文 👩‍🔬", "हिन्दी 中文 👩‍🔬")],
    )  # fmt: skip
    def test_line(self, text: str, shown: str) -> None:
        assert escape.line(text) == shown

    @pytest.mark.parametrize(
        ("text", "shown"),
        [("# x", r"\# x"), ("- x", r"\- x"), ("12. x", r"12\. x"), ("<script>", "&lt;script&gt;"),
         ("[a]: x", r"\[a]: x"), ("[a](x)", r"\[a\](x)"), ("a | `b`", r"a | \`b\`"),
         ("tiny_bert · lr=0.1", "tiny_bert · lr=0.1"), ("0.01 to 1", "0.01 to 1"), ("3)", r"3\)"),
         ("\\|", r"\\|")],
    )  # fmt: skip
    def test_markdown(self, text: str, shown: str) -> None:
        assert escape.begin(text) == shown

    def test_a_table_keeps_its_cells(self) -> None:
        for text in ("a|b", "a\\|b", "a\\\\|b", "`|`", "\n|\n"):
            cell = escape.table_cell(text)
            assert not re.search(r"(?<!\\)(?:\\\\)*\|", cell), cell

    def test_code(self) -> None:
        assert escape.code("a") == "`a`"
        assert escape.code("a``b`") == "``` a``b` ```"

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\uff1d1"])
    def test_csv(self, text: str) -> None:
        assert escape.cell(text).startswith("'")
        assert escape.cell("lora") == "lora"
