"""Ours against the runtimes that a user would pick, on the same weights, measured alternately.

    python tools/peers/compare.py --vlmbench target/release/vlmbench --out DIR

writes DIR/table.md and DIR/table.json, row by row; rows that are there already are kept unless --force is given.
Checkpoints, exported graphs and logs are in DIR/work.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import limits
import rounds
import rows
import table
from contenders import PEERS, ContenderError, Setup, run_once


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure vlmbench and its peers alternately on the same weights.")
    parser.add_argument("--vlmbench", type=Path, required=True, help="the program to compare")
    parser.add_argument("--out", type=Path, required=True, help="folder for table.md, table.json and work/")
    parser.add_argument("--only", help=f"rows, or beginnings of their names: {', '.join(r.name for r in rows.ROWS)}")
    parser.add_argument("--peers", default=",".join(PEERS), help="engines to compare with [default: %(default)s]")
    parser.add_argument("--precisions", default=",".join(rows.PRECISIONS), help="of everyone [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of a row [default: %(default)s]")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds for a row's rounds [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="threads of everyone [default: %(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda:0 [default: %(default)s]")
    parser.add_argument("--force", action="store_true", help="measure rows again that are in table.json")
    args = parser.parse_args()
    args.peers = {peer.strip() for peer in args.peers.split(",") if peer.strip()}
    if unknown := args.peers - set(PEERS):
        parser.error(f"no peer is named {', '.join(sorted(unknown))}; peers: {', '.join(PEERS)}")
    args.precisions = {one.strip() for one in args.precisions.split(",") if one.strip()}
    if unknown := args.precisions - set(rows.PRECISIONS):
        parser.error(f"no precision is named {', '.join(sorted(unknown))}; precisions: {', '.join(rows.PRECISIONS)}")
    if args.device != "cpu":
        # The others of this environment are built for the CPU.
        args.peers &= {"torch"}
    if not args.vlmbench.is_file():
        parser.error(f"{args.vlmbench} is not there; build it with `cargo build --release`")
    return args


def write_checkpoint(row: rows.Row, setup: Setup) -> None:
    """The checkpoint and references of the row's network, once."""
    folder = setup.work / row.network
    if not (folder / "complete").is_file():
        rounds.say(f"{row.network}: writing the checkpoint and PyTorch's f32 outputs")
        script = Path(__file__).resolve().parent / "checkpoints.py"
        run_once([sys.executable, str(script), row.network, str(folder)], row.network, setup)


def main() -> int:
    args = arguments()
    setup = Setup(args.vlmbench.resolve(), (args.out / "work").resolve(), args.threads, args.device)
    setup.work.mkdir(parents=True, exist_ok=True)
    kept = args.out / "table.json"
    earlier = json.loads(kept.read_text()) if kept.is_file() else {"machine": None, "rows": []}
    document = {"machine": limits.best(limits.machine(setup, args.precisions), earlier["machine"]), "rows": earlier["rows"]}
    effort = rounds.Effort(args.rounds, args.budget)
    failed = 0
    for row in rows.select(args.only):
        if any(found["row"] == row.name for found in document["rows"]) and not args.force:
            rounds.say(f"{row.name}: kept from {kept}")
            continue
        try:
            write_checkpoint(row, setup)
            record = rounds.measure(row, setup, args.peers, args.precisions, effort)
        except (ContenderError, ValueError) as error:
            failed += 1
            rounds.say(f"{row.name}: no figures: {error}")
            continue
        others = [found for found in document["rows"] if found["row"] != row.name]
        order = [known.name for known in rows.ROWS]
        document["rows"] = sorted([*others, record], key=lambda found: order.index(found["row"]))
        table.write(document, args.out)
    table.write(document, args.out)
    print((args.out / "table.md").read_text())
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
