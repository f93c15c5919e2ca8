#!/usr/bin/env python3
"""What a relay and nodes cost: resident memory and time of a core, measured on loopback.

    cargo build --release -p punchline
    sudo unshare --net sh -c 'ip link set lo up; tests/sizing.py target/release/punchline'

Prints the tables of design/operate.md; in a network of its own, so that nobody else's bytes are counted. `--seconds` is how long each state is looked at, `--nodes` and `--circuits` how many
there are. All programs run on this machine: what they cost each other is in the numbers of the core, not of the memory.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
RELAY_PORT = 14001
MIB = 1024 * 1024
LOOPBACK = ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1",
            "--assume-global", "127.0.0.0/8", "--port-mapping", "off"]
# No address of the other end may be dialled, so that all stays on the relay, which was named.
RELAYED = ["--allow-net", "192.0.2.0/24"]


class Program:
    """One that runs until it is told to end, and what it said."""

    def __init__(self, *args):
        self.process = subprocess.Popen([BINARY, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def says(self, pattern, seconds=120):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found.group(1) if found.groups() else found.group(0)
            time.sleep(0.05)
        sys.exit(f"no {pattern} in:\n{''.join(self.lines)}")

    def mib(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE / MIB

    def core_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def end(self):
        self.process.terminate()
        self.process.wait()


def relay():
    shares = [f"--max-{what}-per-ip={most}" for what, most in
              [("connections", 4096), ("reservations", 1024), ("circuits", 1024)]]
    return Program("relay", "--identity", f"{HOME}/relay", "--control", "off", "--stun-listen", "127.0.0.1:13478",
                   "--listen", f"/ip4/127.0.0.1/tcp/{RELAY_PORT}", "--external", f"/ip4/127.0.0.1/tcp/{RELAY_PORT}",
                   "--assume-global", "127.0.0.0/8", *shares)


def expose(name, address, target, *more):
    allow = ["--allow-any"]
    return Program("expose", "--identity", f"{HOME}/{name}", "--control", "off", "--relay", address,
                   "--service", f"bytes={target}", *allow, *LOOPBACK, *more)


def line_bytes():
    """What went over loopback so far, with all headers."""
    with open("/proc/net/dev") as devices:
        return int(next(line for line in devices if line.strip().startswith("lo:")).split()[1])


def looked_at(programs, seconds):
    """Memory at the end, and percent of a core over the time, of each; and bytes a second over loopback."""
    before, bytes_before = [program.core_seconds() for program in programs], line_bytes()
    time.sleep(seconds)
    line = (line_bytes() - bytes_before) / seconds
    return line, [(program.mib(), 100 * (program.core_seconds() - was) / seconds) for program, was in zip(programs, before)]


def idle(counts, seconds):
    print("| idle nodes | relay: MiB | relay: % of a core | a node: MiB | a node: % of a core | a node: bytes/s, both ways |\n|---|---|---|---|---|---|")
    server = relay()
    address = server.says(r"--relay (\S+)")
    nodes = []
    for count in counts:
        while len(nodes) < count:
            batch = [expose(f"idle-{len(nodes) + i}", address, "127.0.0.1:1") for i in range(min(20, count - len(nodes)))]
            for node in batch:
                node.says("ready: this node is")
            nodes += batch
        time.sleep(SETTLE)
        line, (of_relay, *of_nodes) = looked_at([server, *nodes], seconds)
        mean = [sum(values) / len(values) for values in zip(*of_nodes)] if of_nodes else None
        node = f"{mean[0]:.0f} | {mean[1]:.2f} | {line / count:.0f}" if mean else "– | – | –"
        print(f"| {count} | {of_relay[0]:.0f} | {of_relay[1]:.1f} | {node} |", flush=True)
    for program in [*nodes, server]:
        program.end()


def pour(listener):
    """Gives whoever comes as many zeros as it takes."""
    block = bytes(64 * 1024)

    def serve(connection):
        try:
            while True:
                connection.sendall(block)
        except OSError:
            connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def drink(port, mib_per_second, seconds, drunk):
    """Takes so much a second (None: all that comes), for so long."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began, taken = time.monotonic(), 0
        while (gone := time.monotonic() - began) < seconds:
            if mib_per_second and taken > gone * mib_per_second * MIB:
                time.sleep(0.01)
                continue
            taken += len(connection.recv(256 * 1024))
        drunk.append(taken / MIB)


def carried(counts, rate, seconds, relayed):
    what = f"{'circuits' if relayed else 'direct streams'}, {f'{rate:g} MiB/s each' if rate else 'as fast as it goes'}"
    print(f"| {what} | MiB/s in all | relay: MiB | relay: % of a core | expose: MiB | expose: % | a forward: MiB | a forward: % |"
          "\n|---|---|---|---|---|---|---|---|")
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    threading.Thread(target=pour, args=(listener,), daemon=True).start()
    server = relay()
    address = server.says(r"--relay (\S+)")
    more = RELAYED if relayed else []
    source = expose("source", address, f"127.0.0.1:{listener.getsockname()[1]}", *more)
    peer = source.says(r"ready: this node is (\S+)")
    forwards = []
    for count in counts:
        while len(forwards) < count:
            port = 15000 + len(forwards)
            forwards.append(Program("forward", "--identity", f"{HOME}/forward-{len(forwards)}", "--control", "off",
                                    "--relay", address, "--peer", peer, "--service", "bytes",
                                    "--local", f"127.0.0.1:{port}", *LOOPBACK, *more))
            forwards[-1].says("connected|direct|is reached|relay")
        time.sleep(SETTLE)
        drunk = []
        drinkers = [threading.Thread(target=drink, args=(15000 + i, rate, seconds + 2, drunk)) for i in range(count)]
        for drinker in drinkers:
            drinker.start()
        time.sleep(1)
        _, (of_relay, of_source, *of_forwards) = looked_at([server, source, *forwards], seconds)
        for drinker in drinkers:
            drinker.join()
        mean = [sum(values) / len(values) for values in zip(*of_forwards)]
        print(f"| {count} | {sum(drunk) / (seconds + 2):.1f} | {of_relay[0]:.0f} | {of_relay[1]:.1f} | {of_source[0]:.0f} | {of_source[1]:.1f} "
              f"| {mean[0]:.0f} | {mean[1]:.1f} |", flush=True)
    for program in [*forwards, source, server]:
        program.end()


def numbers(text):
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--nodes", type=numbers, default=[0, 1, 10, 100, 300])
    parser.add_argument("--circuits", type=numbers, default=[1, 10, 30])
    parser.add_argument("--rate", type=float, default=1, help="MiB/s of each circuit")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--settle", type=int, default=20, help="seconds before each look")
    args = parser.parse_args()
    BINARY, SETTLE, HOME = args.binary, args.settle, tempfile.mkdtemp()
    idle(args.nodes, args.seconds)
    carried(args.circuits, args.rate, min(args.seconds, 30), relayed=True)
    carried(args.circuits, args.rate, min(args.seconds, 30), relayed=False)
    carried([1], None, 10, relayed=True)
    carried([1], None, 10, relayed=False)
