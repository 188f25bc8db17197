#!/usr/bin/env python3
"""Holds what the gateway translates against the official SDKs' types and the providers' own API descriptions.

    POLYGATE_CORPUS=CORPUS python tests/cells/validate.py DIRECTORY [--jobs N] [--examples N]

DIRECTORY holds JSON lines: {"kind": "answer" | "stream" | "request", "client", "upstream", "id", "body"}, requests with "losses",
JSON pointers into what the client wrote. An answer and a stream with the same (client, upstream, id) are the same recorded answer,
whole and streamed, and are compared. Exits 1 on any problem.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import descriptions
import formats

PIECE = 4 << 20  # bytes of a file that one worker takes at a time

# What is wrong in a recording itself, which is passed on as it came: {record: (what the problem has in it, why)}.
RECORDED = {
    "8150e7f14fea846a": ("valid base64", "the picture was cut out with dots"),
    "a929fe7508cc20a3": ("valid base64", "the picture was cut out with dots"),
    "b9d23ac19ed6df38": ("valid base64", "the signature is made up"),
    "f1849b7e3cbf4fa4": ("redactedContent: pattern", "the redacted thinking was taken out"),
    "a74a2f77f62550cc": ("are not JSON", "DeepSeek's own marks stand among the arguments"),
    "b90ffe10e964c2f6": ("are not JSON", "so do they here, cut off"),
    "c208ddcf93455162": ("are not JSON", "and here"),
    "arguments-that-are-not-json": ("Unable to parse tool parameter JSON", "the model wrote none, and the pieces were told"),
}


def is_recorded(name, problem):
    return name in RECORDED and RECORDED[name][0] in problem


class Problems:
    """Each distinct problem of a cell: how often, and some of the records."""

    def __init__(self, examples):
        self.examples, self.counts, self.ids = examples, Counter(), defaultdict(list)

    def add(self, problem, record, count=1):
        self.counts[problem] += count
        if len(self.ids[problem]) < self.examples:
            self.ids[problem].append(record)

    def merge(self, counts, ids):
        self.counts.update(counts)
        for problem, records in ids.items():
            self.ids[problem] = (self.ids[problem] + records)[: self.examples]


def pieces(directory):
    """(path, first byte, last byte) of all the work; a line belongs to the piece it begins in."""
    for path in sorted(Path(directory).rglob("*.jsonl")):
        size = path.stat().st_size
        for start in range(0, size, PIECE):
            yield str(path), start, min(start + PIECE, size)


def lines(path, start, end):
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()
        while file.tell() < end and (line := file.readline()):
            if line.strip():
                yield line


def piece(task):
    """What one piece of a file comes to: counts of each cell, problems, digests to compare."""
    (path, start, end), examples = task
    counts, problems, digests, losses = Counter(), Problems(examples), [], Counter()
    for line in lines(path, start, end):
        try:
            record = json.loads(line)
            kind, client, upstream, name, body = (record[each] for each in ("kind", "client", "upstream", "id", "body"))
            assert all(isinstance(each, str) for each in (kind, client, upstream, name, body))
            assert kind == "request" or kind in ("answer", "stream") and client in formats.FORMATS
        except (ValueError, KeyError, TypeError, AssertionError):
            cell = ("line", "?", "?")
            counts[cell, "failed"] += 1
            problems.add((cell, "not a line of the form described"), f"{Path(path).name}@{start}")
            continue
        cell = (kind, client, upstream)
        if kind == "request":
            found, digest, errored = descriptions.check(upstream, body), None, False
            for at in record.get("losses", ()):
                losses[client, anywhere(at), upstream] += 1
            if found is None:
                counts[cell, "unchecked"] += 1
                continue
        else:
            found, digest, errored = formats.check(client, kind, body)
        found = [each for each in found if not is_recorded(name, each)]
        counts[cell, "failed" if found else "passed"] += 1
        counts[cell, "ended by an error"] += errored
        for problem in dict.fromkeys(found):
            problems.add((cell, problem), name)
        if kind != "request":
            digests.append(((client, upstream, name), kind, digest))
    return counts, dict(problems.counts), dict(problems.ids), digests, losses


def anywhere(pointer):
    """A pointer with a star for each number."""
    return "/".join("*" if step.isdigit() else step for step in pointer.split("/"))


def compare(digests, counts, problems):
    """Whole answers against the streams of the same records."""
    for (client, upstream, name), kinds in digests.items():
        cell = ("pair", client, upstream)
        for kind, seen in kinds.items():
            if len(seen) > 1:
                counts[cell, "failed"] += 1
                problems.add((cell, f"{len(seen)} lines of kind {kind} with one id"), name)
        answer, stream = (kinds.get(kind, [None])[0] for kind in ("answer", "stream"))
        if answer is None or stream is None:
            # Alone, or without a digest: what is wrong there has been told, or the stream ended in an error.
            counts[cell, "unpaired"] += 1
            continue
        found = list(formats.differences(answer, stream))
        counts[cell, "failed" if found else "passed"] += 1
        for problem in found:
            problems.add((cell, problem), name)


def run(directory, jobs, examples):
    counts, problems, losses, digests = Counter(), Problems(examples), Counter(), defaultdict(lambda: defaultdict(list))
    tasks = [(each, examples) for each in pieces(directory)]
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for done, faults, ids, read, lost in pool.imap_unordered(piece, tasks):
            counts.update(done)
            losses.update(lost)
            problems.merge(faults, ids)
            for key, kind, digest in read:
                digests[key][kind].append(digest)
    compare(digests, counts, problems)
    return counts, problems, losses


def report_losses(losses):
    """What requests lost, of each client's, and how often for which upstream."""
    rows = sorted({(client, at) for client, at, _ in losses})
    upstreams = sorted({upstream for *_, upstream in losses})
    if rows:
        print(f"\n{'named as lost':20} {'':55} " + " ".join(f"{each:>18}" for each in upstreams))
    for client, at in rows:
        print(f"{client:20} {at:55} " + " ".join(f"{losses[client, at, each] or '.':>18}" for each in upstreams))


def report(counts, problems):
    columns = ("passed", "failed", "ended by an error", "unpaired", "unchecked")
    cells = sorted({cell for cell, _ in counts})
    print(f"{'kind':8} {'client':20} {'upstream':24} " + " ".join(f"{each:>8}" for each in ("passed", "failed", "error", "unpaired", "unchecked")))
    for cell in cells:
        print(f"{cell[0]:8} {cell[1]:20} {cell[2]:24} " + " ".join(f"{counts[cell, each] or '.':>8}" for each in columns))
    together = defaultdict(list)
    for (cell, problem), count in problems.counts.items():
        together[cell[0], cell[1] if cell[0] != "request" else "for " + cell[2], problem].append((count, cell, problem))
    if together:
        print("\nProblems:")
    for (kind, whose, problem), rows in sorted(together.items(), key=lambda each: (each[0][:2], -sum(row[0] for row in each[1]))):
        total = sum(count for count, *_ in rows)
        sides = ", ".join(f"{cell[1] if kind == 'request' else cell[2]} {count}" for count, cell, _ in sorted(rows, reverse=True))
        examples = [f"{cell[1] if kind == 'request' else cell[2]}:{name}" for _, cell, _ in sorted(rows, reverse=True) for name in problems.ids[cell, problem]]
        print(f"{total:6}  {kind} {whose}: {problem}\n        {'clients' if kind == 'request' else 'upstreams'}: {sides}; e.g. {' '.join(examples[: problems.examples])}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--examples", type=int, default=3)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    for upstream in descriptions.FILES:  # compiled before the workers are forked
        descriptions.validators(upstream)
    absent = descriptions.absent()
    if absent:
        print(f"!!! NO API DESCRIPTION, REQUESTS NOT CHECKED: {', '.join(absent)} (is POLYGATE_CORPUS set?)", file=sys.stderr)
    counts, problems, losses = run(options.directory, options.jobs, options.examples)
    report_losses(losses)
    print()
    report(counts, problems)
    passed, failed, unchecked = (sum(count for (_, what), count in counts.items() if what == each) for each in ("passed", "failed", "unchecked"))
    if unchecked:
        print(f"\n!!! {unchecked} REQUESTS NOT CHECKED: no API description")
    print(f"\n{time.monotonic() - began:.0f} s")
    if not passed + failed + unchecked:
        print(f"no lines in {options.directory}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
