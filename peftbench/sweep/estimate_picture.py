"""Estimates as a picture: a bar a run, by part, as SVG."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from peftbench.sweep.estimation import Estimate
from peftbench.system import files

#: Parts in the order of the bar, with colours that differ in lightness too.
_COLOURS = {
    "weights_frozen": "#08306b",
    "weights_trained": "#2171b5",
    "gradients": "#9ecae1",
    "optimizer": "#fdae6b",
    "activations": "#e6550d",
    "temporary": "#bdbdbd",
}
_LEFT, _WIDTH, _BAR, _GAP, _TOP = 220, 620, 18, 8, 48


def write(file: Path, estimates: Sequence[Estimate]) -> None:
    """Write the picture of all runs that could be estimated."""
    files.make_folder(file.parent)
    files.write(file, lambda temporary: temporary.write_text(svg(estimates), encoding="utf-8"))


def svg(estimates: Sequence[Estimate]) -> str:
    """The picture: MB at the peak by part."""
    bars = [(_name(one), one.cell["parts"]) for one in estimates if not one.refused]
    most = max((sum(parts.values()) for _, parts in bars), default=1)
    height = _TOP + len(bars) * (_BAR + _GAP) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 110}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img" aria-label="Memory at the peak by part">'
    ]
    for place, (part, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + place * 120
        lines.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 17}" y="22">{part.replace("_", " ")}</text>')
    for row, (name, parts) in enumerate(bars):
        lines += _bar(name, parts, _TOP + row * (_BAR + _GAP), _WIDTH / most)
    return "\n".join([*lines, "</svg>", ""])


def _bar(name: str, parts: dict[str, int], y: int, scale: float) -> list[str]:
    lines = [f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>']
    x = float(_LEFT)
    for part, colour in _COLOURS.items():
        width = parts[part] * scale
        title = f"<title>{escape(name)}: {part} {parts[part] / 1e6:,.1f} MB</title>"
        lines.append(f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_BAR}" fill="{colour}">{title}</rect>')
        x += width
    lines.append(f'<text x="{x + 6:.2f}" y="{y + 13}">{sum(parts.values()) / 1e6:,.0f} MB</text>')
    return lines


def _name(one: Estimate) -> str:
    return f"{one.config.method.name} · {one.config.model.name}"
