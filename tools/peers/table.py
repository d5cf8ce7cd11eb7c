"""From samples to the table: medians, ratios within rounds, rates, shares of the peak."""

import json
from pathlib import Path
from statistics import median, quantiles

from contenders import EXPORT, OURS
from quiet import OTHERS
from rounds import typical
from rows import PRECISIONS


def repetitions(contender: dict) -> list[float]:
    """One number a round."""
    return [typical(repetition["ms"]) for repetition in contender["rounds"]]


def clean(contenders: list[dict]) -> list[int]:
    """The rounds in which nobody else disturbed a repetition of these; all of them if there is no such round."""
    numbers = range(len(contenders[0]["rounds"]))
    good = [n for n in numbers if all(contender["rounds"][n]["others"] <= OTHERS for contender in contenders)]
    return good or list(numbers)


def figure(contender: dict) -> float:
    """Median milliseconds over the clean rounds; the best trial of one that was dropped after them."""
    rounds = repetitions(contender)
    if not rounds:
        return min(typical(trial["ms"]) for trial in contender["trials"])
    return median(rounds[number] for number in clean([contender]))


def disturbed(contenders: list[dict]) -> bool:
    """Whether others had too much of the machine in all rounds."""
    return any(contender["rounds"][n]["others"] > OTHERS for n in clean(contenders) for contender in contenders)


def summarise(row: dict, peaks: dict[str, float]) -> dict:
    """The derived figures of a row, by precision."""
    flops = next((c["flops"] for c in row["contenders"] if c.get("flops")), None)
    summary = {"gflop": flops and flops / 1e9}
    for precision in PRECISIONS:
        members = [c for c in row["contenders"] if c["precision"] == precision]
        ours = next((c for c in members if c["engine"] == OURS), None)
        rivals = [c for c in members if c["engine"] not in (OURS, EXPORT) and c["rounds"]]
        if ours is None or not ours["rounds"]:
            continue
        part = {"ours_ms": figure(ours)}
        if flops:
            part["gflop_per_second"] = flops / figure(ours) / 1e6
            part["share_of_peak"] = part["gflop_per_second"] / peaks[precision]
        if row["work"] == "decode" and "read" in peaks:
            seconds = ours["weight_bytes"] / peaks["read"] / 1e9
            part["times_reading_weights"] = figure(ours) / 1e3 / seconds
        if rivals:
            best = min(rivals, key=figure)
            ratios = [repetitions(ours)[n] / repetitions(best)[n] for n in clean([ours, best])]
            low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
            part |= {"best_peer": name(best), "best_peer_ms": figure(best)}
            part["disturbed"] = disturbed([ours, best])
            part |= {"ratio": median(ratios), "ratio_quartiles": [low, high], "ratios": ratios}
        export = next((c for c in members if c["engine"] == EXPORT and c["rounds"]), None)
        torch_export = next((c for c in rivals if c["engine"] == "onnxruntime"), None)
        if export and torch_export:
            both = clean([export, torch_export])
            part["export_ratio"] = median(repetitions(export)[n] / repetitions(torch_export)[n] for n in both)
        summary[precision] = part
    return summary


def name(contender: dict) -> str:
    """As in the table's headings."""
    return " ".join(part for part in (contender["engine"], contender["variant"]) if part)


def cell(row: dict, engine: str, precision: str) -> str:
    """Milliseconds of an engine's best variant, with which one that is."""
    members = [c for c in row["contenders"] if c["engine"] == engine and c["precision"] == precision]
    if not members:
        return "-"
    best = min(members, key=figure)
    variant = f" {best['variant']}" if best["variant"] else ""
    # What only ran alone, because it was far behind, is marked.
    return f"{'~' if not best['rounds'] else ''}{milliseconds(figure(best))}{variant}"


def milliseconds(value: float) -> str:
    """Three digits or so."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def ours_cells(summary: dict, precision: str) -> list[str]:
    """Our time, rate, share of the peak, ratio with its quartiles, rounds."""
    part = summary.get(precision)
    if part is None:
        return ["-"] * 5
    rate = f"{part['gflop_per_second']:.0f}" if "gflop_per_second" in part else "-"
    share = f"{part['share_of_peak']:.0%}" if "share_of_peak" in part else "-"
    if "times_reading_weights" in part:
        share = f"{part['times_reading_weights']:.2f}x reading the weights"
    ratio = "-"
    if "ratio" in part:
        low, high = part["ratio_quartiles"]
        ratio = f"**{part['ratio']:.2f}** ({low:.2f} to {high:.2f})"
    rounds = str(len(part.get("ratios", [])))
    if part.get("disturbed"):
        rounds += ", disturbed"
    return [milliseconds(part["ours_ms"]), rate, share, ratio, rounds]


def markdown(document: dict) -> str:
    """One table a precision."""
    machine, peaks = document["machine"], document["machine"]["peaks"]
    on = machine["cpu"] if machine.get("device", "cpu") == "cpu" else f"{machine['device']} beside {machine['cpu']}"
    lines = [
        f"{on}, {machine['threads']} threads, batch 1. Milliseconds, medians over rounds in random order; "
        "ratio: ours over the best peer in the same round, median and quartiles.",
        "",
    ]
    engines = {
        "f32": [("onnxruntime", "ONNX Runtime"), ("torch", "PyTorch"), ("llama.cpp", "llama.cpp")],
        "bf16": [("torch", "PyTorch"), ("llama.cpp", "llama.cpp")],
    }
    for precision in PRECISIONS:
        if not any(precision in row["summary"] for row in document["rows"]):
            continue
        product = peaks[f"product_{precision}"]
        lines += [
            f"{precision}; peak {peaks[precision]:.0f} GFLOP/s ({machine['peak_source']}), "
            f"PyTorch's best matrix product {product:.0f} GFLOP/s",
            "",
        ]
        ours = ["vlmbench", "GFLOP/s", "of peak", "ratio", "rounds"]
        exports = ["our export on ONNX Runtime"] if precision == "f32" else []
        titles = ["work", "GFLOP", *(title for _, title in engines[precision]), *exports, *ours]
        lines += [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        for row in document["rows"]:
            summary = row["summary"]
            gflop = f"{summary['gflop']:.1f}" if summary["gflop"] else "-"
            cells = [row["title"], gflop, *(cell(row, engine, precision) for engine, _ in engines[precision])]
            if exports:
                ratio = summary.get(precision, {}).get("export_ratio")
                cells.append(cell(row, EXPORT, precision) + (f" ({ratio:.2f})" if ratio else ""))
            lines.append(f"| {' | '.join([*cells, *ours_cells(summary, precision)])} |")
        lines.append("")
    lines += [
        "`~`: more than 1.4 times the fastest peer of its precision when run alone, and not measured further. "
        "In parentheses: our export over torch's. Rounds in which other programs had more than 5% of the machine are left out; disturbed: there were no others."
    ]
    return "\n".join(lines) + "\n"


def write(document: dict, out: Path) -> None:
    """table.json and table.md; after every row, so that an interruption loses one row."""
    for row in document["rows"]:
        row["summary"] = summarise(row, document["machine"]["peaks"])
    (out / "table.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "table.md").write_text(markdown(document))
