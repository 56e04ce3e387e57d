"""The results of bench/run.py as Markdown tables, written between two markers of a page."""

import pathlib
import sys

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PAGE = f"""# Benchmarks

Made by `bench/run.py` (`bench/README.md` says how); do not edit between the markers.

{BEGIN}
{END}
"""
GROWTH = {"tokens": "rows of 512 tokens a step, `sft`", "length": "tokens of the one row of a step, `sft`",
          "vocabulary": "vocabulary, `sft` on 4 rows of 512", "group": "samples of the one prompt of a step, `grpo`",
          "prompt": "share of the prompt in pairs of 1,024 tokens a row, `dpo`"}


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def spread(values: dict) -> str:
    median, low, high = (number(values[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low}–{high})"


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}%"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)]
    return "\n".join(lines) + "\n"


def sides(one: dict) -> tuple[dict, dict | None]:
    return one["rlhf"], one.get("trl")


def cell(side: dict | None, key: str) -> str:
    return spread(side[key]) if side else "fails"


def ratio(one: dict, key: str, unit: str = "") -> str:
    return f"{one[key]:.2f}{unit}" if key in one else ""


def name(one: dict) -> str:
    return " ".join(part for part in (f"`{one['work']}`", one.get("size"), one.get("length", "short")) if part and part != "short")


def training(results: list[dict]) -> str:
    columns = ["", "seconds a step", "TRL", "speed", "tokens a second", "TRL", "peak GB", "TRL", "of it", "planned GB", "of the product peak",
               "TRL"]
    rows = []
    for one in results:
        ours, theirs = sides(one)
        used = [percent(side["flop_utilisation"].get("step")) if side else "" for side in (ours, theirs)]
        cells = [cell(side, key) for key in ("seconds", "tokens_per_second", "peak_gb") for side in (ours, theirs)]
        rows.append([name(one), *cells[:2], ratio(one, "speed_ratio", " ×"), *cells[2:], ratio(one, "memory_ratio"),
                     number(ours["planned_gb"]), *used])
    return markdown(columns, rows)


def phases(results: list[dict]) -> str:
    """Seconds of each phase, its share of their sum, and its share of the product peak where its operations are counted."""
    rows = []
    for one in results:
        for label, side in zip(("rlhf", "TRL"), sides(one)):
            if not side or not side["phases"]:
                continue
            whole = sum(side["phases"].values())
            parts = []
            for phase, seconds in side["phases"].items():
                used = side["flop_utilisation"].get(phase)
                parts.append(f"{phase} {number(seconds)} s, {percent(seconds / whole)}" + (f" ({percent(used)} of peak)" if used is not None else ""))
            rows.append([name(one), label, " · ".join(parts), number(side["outside_seconds"]["median"])])
    return markdown(["", "", "phases of a step", "seconds outside steps"], rows)


def sampling(results: list[dict]) -> str:
    columns = ["", "rows together", "tokens a second", "transformers", "speed", "of memory's read rate: weights (with cache)", "transformers",
               "peak GB", "transformers"]
    rows = []
    for one in results:
        both = sides(one)
        used = ["{} ({})".format(*(percent(side["read_utilisation"][part]) for part in ("weights", "all"))) if side else "" for side in both]
        speeds, peaks = ([cell(side, key) for side in both] for key in ("tokens_per_second", "peak_gb"))
        rows.append([name(one), str(one["prompts"] * one["samples"]), *speeds, ratio(one, "speed_ratio", " ×"), *used, *peaks])
    return markdown(columns, rows)


def tokenising(results: list[dict]) -> str:
    rows = []
    for one in results:
        both = sides(one)
        speeds, peaks = ([cell(side, key) for side in both] for key in ("megabytes_per_second", "peak_gb"))
        rows.append([*speeds, ratio(one, "speed_ratio", " ×"), *peaks])
    return markdown(["MB of text a second, one thread", "tokenizers", "speed", "peak GB", "tokenizers"], rows)


def growth(results: list[dict]) -> str:
    rows = []
    for one in results:
        side = one["rlhf"]
        used = percent(side["flop_utilisation"].get("step"))
        rows.append([f"{one['value']:,g}", *(cell(side, key) for key in ("seconds", "tokens_per_second", "peak_gb")), used])
    return markdown([GROWTH[results[0]["growth"]], "seconds a step", "tokens a second", "peak GB", "of the product peak"], rows)


def between(results: list[dict], key: str) -> str:
    values = [one["peaks"][key] for one in results]
    return " to ".join(dict.fromkeys(f"{value:.0f}" for value in (min(values), max(values))))


def others(results: list[dict]) -> list[float]:
    return [side["others"]["high"] for one in results for side in sides(one) if side]


def head(content: dict) -> str:
    machine, results = content["machine"], content["results"]
    cpu = f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['cpu_flags'])}), {machine['threads']} threads"
    peaks = f"products at {between(results, 'gflops_fp32')} GFLOP/s, memory read at {between(results, 'read_gb_per_s')} GB/s"
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    commits = ", ".join(sorted({one["commit"] for one in results}))
    days = " to ".join(sorted({min(one["day"] for one in results), max(one["day"] for one in results)}))
    return (f"{cpu}; {peaks}, measured before each work. {versions}; commits {commits}; {days}. Cores busy with something else: at most "
            f"{max(others(results)):.2f}. Median (least–most) of all counted steps.\n")


def failures(results: list[dict]) -> str:
    lines = []
    for one in results:
        label = name(one) if "work" in one else f"growth of {one['growth']}, {one['value']}"
        lines += [f"- {label}: {one[key]}" for key in ("failed", "trl_failed") if key in one]
    return "\n".join(lines) + "\n"


def section(title: str, results: list[dict], write) -> list[str]:
    return [f"### {title}\n", write(results)] if results else []


def tables(content: dict) -> str:
    """All tables that there are results for."""
    done = [one for one in content["results"] if "failed" not in one]
    works = [one for one in done if "work" in one]
    trained = [one for one in works if "gflop" in one]
    if not done:
        sys.exit("no result to make a table of")
    parts = [head({**content, "results": done}), *section("Training", trained, training), *section("Phases", trained, phases)]
    parts += section("Sampling", [one for one in works if "read_gb" in one], sampling)
    parts += section("Tokenising", [one for one in works if "megabytes" in one], tokenising)
    for by in GROWTH:
        grown = sorted((one for one in done if one.get("growth") == by), key=lambda one: (one["size"], one["value"]))
        for size in dict.fromkeys(one["size"] for one in grown):
            parts += section(f"Growth with {by}, {size}", [one for one in grown if one["size"] == size], growth)
    parts += section("What failed", [one for one in content["results"] if "failed" in one or "trl_failed" in one], failures)
    return "\n".join(parts)


def summary(one: dict) -> str:
    """A result in a few words, for the terminal."""
    text = f"{spread(one['rlhf']['seconds'])} s, {spread(one['rlhf']['peak_gb'])} GB"
    if "trl" in one:
        return f"{text}; TRL {spread(one['trl']['seconds'])} s, {spread(one['trl']['peak_gb'])} GB; {one['speed_ratio']} x"
    return f"{text}; TRL: {one['trl_failed']}" if "trl_failed" in one else text


def write(path: pathlib.Path, content: dict) -> None:
    """Puts the tables between the markers of the page, which is made where there is none."""
    page = path.read_text() if path.exists() else PAGE
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        sys.exit(f"{path} lacks the lines {BEGIN} and {END}. HINT: put them where the tables belong")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{tables(content)}{END}{after}")
