#!/usr/bin/env python3
"""Draws bench/speed.svg, the chart of the README, from the tables of bench/README.md:

    python3 bench/report/speed_chart.py
    python3 bench/report/speed_chart.py --check    fails where the chart is not what the tables say today

Nothing is measured here and no figure is written here: a row that is no longer found as it is looked for ends this
with its name. Needs nothing but Python 3.
"""
import html
import pathlib
import re
import sys

BENCH = pathlib.Path(__file__).resolve().parent.parent
NUMBER = r"(\d+(?:\.\d+)?)"
RANGE = NUMBER + r"(?: to " + NUMBER + ")?"

# What a visitor asks about, also where we lose: words, against whom, and where bench/README.md says it. One group is
# one figure, two are a range.
ROWS = [
    ("CLIP ViT-B/32, fp32, 1 image", "OpenVINO", r"\| fp32 \(ours, ms\) \| " + NUMBER),
    ("CLIP ViT-B/32, fp32, 64 images", "OpenVINO", r"\| fp32 \(ours, ms\) \|[^|]*\|[^|]*\| " + NUMBER),
    ("CLIP ViT-B/32, int8, 64 images", "OpenVINO", r"\| int8, all of it[^|]*\|[^|]*\|[^|]*\| " + NUMBER),
    ("Mixture of 32 experts, 1 thread", "libtorch",
     r"against libtorch's expert loop, 1 thread / 2 threads \| " + NUMBER),
    ("Training step, 8 experts, 2 threads", "libtorch", r"against libtorch, 2 threads, E = 8 / 32 \| " + NUMBER),
    ("Expert, fp32, 64 to 1024 rows", "oneDNN", r"\| expert y [^|]*\|[^|]*; " + RANGE + " times oneDNN"),
    ("Expert, bf16, 64 to 1024 rows", "oneDNN", r"\| the same in bf16 / int8 \|[^|]*; " + RANGE + " / "),
    ("Expert, int8, 64 to 1024 rows", "oneDNN",
     r"\| the same in bf16 / int8 \|[^|]*; [\d.]+ to [\d.]+ / " + RANGE + " times oneDNN"),
]
MACHINE = r"\((AMD EPYC, Zen 5)[^,]*?, (2 cores), (g\+\+ [\d.]+)"
DATE = r"recorded on (\d{4}-\d\d-\d\d)"

WIDTH, LEFT, RIGHT, TOP, STEP = 830, 330, 730, 62, 30
MOST = 5.0  # times as fast, at the right end


def find(pattern, text, what):
    match = re.search(pattern, text)
    if not match:
        sys.exit(f"speed_chart.py: bench/README.md no longer says «{what}» as it is looked for: {pattern}")
    return [group for group in match.groups() if group]


def draw(text):
    place = lambda times: LEFT + (RIGHT - LEFT) * times / MOST
    end = TOP + STEP * len(ROWS)
    machine, date = ", ".join(find(MACHINE, text, "the machine")), find(DATE, text, "the date")[0]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {end + 76}" font-family="sans-serif" '
        'font-size="13" role="img" aria-labelledby="title">',
        '<title id="title">Speed of gatefold divided by that of the library named</title>',
        # Its own ground, so that it is readable wherever it stands; dark where the reader's system is.
        "<style>.ground{fill:#fff}text{fill:#1f2328}.pale{fill:#59636e}.ahead{fill:#0969da}.behind{fill:#bc4c00}"
        ".grid{stroke:#d1d9e0}.one{stroke:#1f2328}@media(prefers-color-scheme:dark){.ground{fill:#0d1117}"
        "text{fill:#f0f6fc}.pale{fill:#9198a1}.ahead{fill:#4493f8}.behind{fill:#f0883e}.grid{stroke:#3d444d}"
        ".one{stroke:#f0f6fc}}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{end + 76}" rx="6"/>',
        '<text x="20" y="28" font-weight="bold" font-size="16">How many times as fast as the other library</text>',
    ]
    for times in range(int(MOST) + 1):
        x, kind = place(times), "one" if times == 1 else "grid"
        out.append(f'<line class="{kind}" x1="{x:g}" y1="{TOP - 12}" x2="{x:g}" y2="{end}"/>')
        label = "1 = equal" if times == 1 else f"{times}"
        out.append(f'<text class="pale" x="{x:g}" y="{end + 18}" text-anchor="middle" font-size="12">{label}</text>')
    for i, (what, who, pattern) in enumerate(ROWS):
        figures = find(pattern, text, what)
        least, most = float(figures[0]), float(figures[-1])
        y = TOP + STEP * i
        # A range that ends at equal is behind: what counts is its worst end. The bar is as long as that.
        kind = "ahead" if least >= 1 else "behind"
        shown = " to ".join(figures)
        out += [
            f'<text x="20" y="{y + 11}">{html.escape(what)}</text>',
            f'<text class="pale" x="{LEFT - 10}" y="{y + 11}" text-anchor="end" font-size="12">{who}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y - 2}" width="{place(least) - LEFT:.1f}" height="17"/>',
            f'<text x="{place(max(most, 1)) + 8:.1f}" y="{y + 11}" font-weight="bold">{shown}'
            f'{" (slower)" if kind == "behind" else ""}</text>',
        ]
    out += [
        f'<text class="pale" x="20" y="{end + 42}" font-size="12">{machine}; recorded on {date}.</text>',
        f'<text class="pale" x="20" y="{end + 60}" font-size="12">A bar ends at the worst figure of its range. All rows '
        "and versions: bench/README.md</text>",
        "</svg>",
    ]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    chart = BENCH / "speed.svg"
    drawn = draw((BENCH / "README.md").read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--check"]:
        if chart.read_text(encoding="utf-8") != drawn:
            sys.exit("bench/speed.svg is not what bench/README.md says: run python3 bench/report/speed_chart.py")
    elif sys.argv[1:]:
        sys.exit("usage: speed_chart.py [--check]")
    else:
        chart.write_text(drawn, encoding="utf-8")
