#!/usr/bin/env python3
"""How long from an off order to the first *off* read: the driver redfish and ClusterLabs' fence_redfish.

Both against the same fake service (HTTPS on loopback) that cuts the power at once: what is measured is the clients.
One service, and 64 at once. Prints a table, or with --json the figures as they are. The times are of the fences that
succeeded; how many did not, and what the first of these said, stands beside them.
"""

import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
MEASURE = ["cargo", "test", "--locked", "-p", "rekindle-tests", "--test", "redfish"]
ONE = ["--", "--ignored", "--exact", "bench::measure", "--nocapture"]


def measure(release):
    """Runs the measurement; its lines of JSON among what cargo says."""
    command = MEASURE + (["--release"] if release else []) + ONE
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in said.splitlines() if line.startswith('{"client"')]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the figures as they are")
    parser.add_argument("--release", action="store_true", help="with a release build of ours, which takes minutes")
    args = parser.parse_args()
    rows = measure(args.release)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print("| client | at once | median ms | longest ms | failed |\n|---|---|---|---|---|")
    for row in rows:
        times = [f"{row[key]:.1f}" if row["succeeded"] else "-" for key in ("median_ms", "longest_ms")]
        failed = f"{row['failed']}, the first: {plain(row['first_failure'])}" if row["failed"] else "0"
        print("|", " | ".join([row["client"], str(row["services"]), *times, failed]), "|")


def plain(words):
    """On one line of a table."""
    return " ".join(words.replace("|", "/").split())


if __name__ == "__main__":
    main()
