#!/usr/bin/env python3
"""How long from an off order to the first *off* read: the driver redfish and ClusterLabs' fence_redfish.

Both against the same fake service (HTTPS on loopback) that cuts the power at once: what is measured is the clients.
One service, and 64 at once. Prints a table, or with --json the figures as they are.
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
    print("| client | at once | median ms | longest ms |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['client']} | {row['services']} | {row['median_ms']:.1f} | {row['longest_ms']:.1f} |")


if __name__ == "__main__":
    main()
