#!/usr/bin/python3
"""How fast a sidecar answers on its control socket, idle and under load: `answers.py PUNCHLINE`.

A relay, an `expose` and a `forward` run on loopback. Each question is a command of its own, asked 50 times; first while nothing
flows, then while some connections through the two sidecars carry as many bytes as this machine can.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

TIMES = 50
CONNECTIONS = 4
CHUNK = bytes(1 << 20)
# A peer hears 20 pings a second at most; one that is asked for sooner waits.
PING_PAUSE = 0.1
NODE = ["--assume-global", "127.0.0.0/8", "--listen", "/ip4/127.0.0.1/tcp/0"]


class World:
    def __init__(self, punchline):
        self.punchline = punchline
        self.place = tempfile.mkdtemp()
        self.environment = {"PATH": os.environ["PATH"], "HOME": self.place}
        self.programs = []

    def at(self, name):
        return os.path.join(self.place, name)

    def ask(self, *args):
        command = [self.punchline, *args]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def id_of(self, name):
        return self.ask("id", "--identity", self.at(name)).strip()

    def run(self, command, *args):
        own = ["--identity", self.at(command), "--control", self.at(command + ".sock"), "--events", self.at(command + ".jsonl")]
        with open(self.at(command + ".log"), "w") as log:
            launched = [self.punchline, command, *NODE, *own, *args]
            self.programs.append(subprocess.Popen(launched, env=self.environment, stdout=log, stderr=log))

    def wait_for(self, command, event):
        """The first line of that event."""
        end = time.time() + 30
        while time.time() < end:
            if os.path.exists(self.at(command + ".jsonl")):
                with open(self.at(command + ".jsonl")) as lines:
                    for line in lines:
                        if f'"event":"{event}"' in line:
                            return line
            time.sleep(0.05)
        raise SystemExit(f"{command} has no {event}: {open(self.at(command + '.log')).read()}")

    def end(self):
        for program in self.programs:
            program.terminate()


def field(line, name):
    return line.split(f'"{name}":"')[1].split('"')[0]


def zeros():
    """The port of a program that sends zeros to whoever connects, for as long as they are read."""
    listener = socket.create_server(("127.0.0.1", 0))

    def send(taken):
        try:
            while True:
                taken.sendall(CHUNK)
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=send, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


class Load:
    def __init__(self, local):
        self.taken = 0
        for _ in range(CONNECTIONS):
            threading.Thread(target=self.read, args=(local,), daemon=True).start()

    def read(self, local):
        host, port = local.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as pipe:
            room = bytearray(1 << 20)
            while length := pipe.recv_into(room):
                self.taken += length


def spread(run, pause=0):
    times = []
    for _ in range(TIMES):
        time.sleep(pause)
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return f"p50 {times[TIMES // 2]:.0f} ms, p95 {times[int(TIMES * 0.95)]:.0f} ms, max {times[-1]:.0f} ms"


def main():
    world = World(sys.argv[1])
    world.run("relay", "--external", "auto", "--stun-listen", "off")
    relay = f'{field(world.wait_for("relay", "listening"), "address")}/p2p/{world.id_of("relay")}'
    world.run("expose", "--relay", relay, "--service", f"zeros=127.0.0.1:{zeros()}", "--allow-any")
    world.wait_for("expose", "reservation_held")
    peer = world.id_of("expose")
    world.run("forward", "--relay", relay, "--peer", peer, "--service", "zeros", "--local", "127.0.0.1:0")
    local = field(world.wait_for("forward", "forward_listening"), "local")
    world.wait_for("forward", "upgrade_succeeded")
    control = ["--control", world.at("forward.sock")]
    questions = [["status"], ["status", "--json"], ["ping", peer, "--count", "1"], ["why", peer], ["health"]]

    def all_answers():
        for question in questions:
            name = " ".join(question).replace(f" {peer}", "")
            pause = PING_PAUSE if question[0] == "ping" else 0
            print(f"  {name:18} {spread(lambda: world.ask(*question, *control), pause)}")

    load = lambda: ", ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{os.cpu_count()} cores, load average {load()}")
    print(f"a process that does nothing (--version): {spread(lambda: world.ask('--version'))}")
    print("idle:")
    all_answers()
    flow = Load(local)
    time.sleep(3)
    before, began = flow.taken, time.time()
    print(f"while {CONNECTIONS} connections carry what they can:")
    all_answers()
    print(f"  meanwhile {(flow.taken - before) / (time.time() - began) / 1e6:.0f} MB/s; load average {load()}")
    world.end()


main()
