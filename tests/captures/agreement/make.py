#!/usr/bin/env python3
"""Makes the candidates and the figures of this directory with the accuracy benchmark's own scripts.

usage: make.py BENCHMARK CAPTURES    (BENCHMARK has compare.py, oracle.py and tools/run_benchmark.py)

The candidates are what tshark says (oracle.py), spoiled in three ways, so that every rule of the comparison has something
to find: each 41st packet is missing, each third flow has client and server exchanged, and each fifth flow is missing.
"""
import gzip, json, os, sys
from collections import defaultdict

bench, captures = sys.argv[1:3]
sys.path[:0] = [bench, os.path.join(bench, "tools")]
import compare, oracle, run_benchmark

SCENARIOS = ["mixed_v6", "reorder_duplicate", "reuse", "syn_loss"]
CLIENT = ("10.77.1.2", "fd77:0:0:1::2", "fd77::1:0:0:0:2")
KEEP = ["t", "frame", "src", "sport", "dst", "dport", "seq", "len", "analysis"]


def swapped(flow):
    flow = dict(flow, src=flow["dst"], sport=flow["dport"], dst=flow["src"], dport=flow["sport"])
    return {k: v[::-1] if isinstance(v, list) and len(v) == 2 and k != "rst_why" else v for k, v in flow.items()}


def candidate(path, out):
    packets, flows = oracle.analyse(path)
    flows = [swapped(f) if n % 3 == 2 else f for n, f in enumerate(flows) if n % 5 != 4]
    lines = [{k: p[k] for k in KEEP} for p in packets if p["frame"] % 41] + flows
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, 0) as packed:
        for line in lines:
            packed.write((json.dumps(line, separators=(",", ":")) + "\n").encode())


def main():
    own = os.path.dirname(os.path.abspath(__file__))
    classes, flows = defaultdict(lambda: defaultdict(lambda: defaultdict(int))), defaultdict(int)
    for scenario in SCENARIOS:
        for place in "cms":
            base = os.path.join(captures, "generated", scenario, place)
            out = os.path.join(own, "%s.%s.jsonl.gz" % (scenario, place))
            candidate(base + ".pcap.gz", out)
            reference, said = compare.load(base + ".truth.jsonl.gz"), compare.load(out)
            found = compare.compare(reference, said)
            run_benchmark.add(classes["all"], found["classes"])
            where = lambda p: "middle" if place == "m" else "sender" if (place == "c") == (p["src"] in CLIENT) else "receiver"
            for at in ("sender", "middle", "receiver"):
                keep = {f for f, p in reference[1].items() if where(p) == at}
                part = lambda x: (x[0], {f: p for f, p in x[1].items() if f in keep}, [])
                if keep:
                    run_benchmark.add(classes[at], compare.compare(part(reference), part(said))["classes"])
            f, p = found["flows"], found["packets"]
            for name, value in (("flows", f["reference"]), ("exact", round(f["exact_all_fields"] * f["reference"])),
                                ("core", round(f["exact_core_fields"] * f["reference"])), ("gap_ok", f["reused_gap_within"][0]),
                                ("gap", f["reused_gap_within"][1]), ("judged", p["judged"]), ("missing", p["missing_in_candidate"]),
                                ("same", round(p["same_labels"] * p["judged"]))):
                flows[name] += value
    with open(os.path.join(own, "figures.json"), "w") as out:
        json.dump({"classes": classes, "whole": flows}, out, indent=1)
        out.write("\n")


main()
