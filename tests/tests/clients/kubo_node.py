"""A Kubo node, and so go-libp2p, from the library that the package kubo-python brings; it goes on until it is killed.

    kubo_node.py LIBRARY FOLDER

FOLDER has `settings.json`, which goes over Kubo's own settings, and may have `identity`, a key as libp2p writes keys (without it
the node makes an RSA key). Each line that is added to `wishes` there is an address to connect to. What happens is printed, one
JSON object a line.
"""

import base64
import ctypes
import json
import os
import sys
import time

# Nobody but the test is spoken to.
QUIET = {
    "Bootstrap": [],
    "Discovery": {"MDNS": {"Enabled": False}},
    "Routing": {"Type": "none"},
    "Swarm": {"DisableNatPortMap": True},
    "AutoNAT": {"ServiceMode": "disabled"},
}


def main(library, folder):
    # The library keeps a log where it runs.
    os.chdir(folder)
    node = Kubo(library, os.path.join(folder, "repository"))
    node.start(settings(folder))
    say("started", peer=node.ask("GetNodeID"), addresses=json.loads(node.ask("GetNodeMultiAddrs")))
    wishes, said = open(os.path.join(folder, "wishes")), {}
    while True:
        for address in iter(wishes.readline, ""):
            connected = node.call("ConnectToPeer", address.strip()) == 0
            say("connected" if connected else "connect_failed", address=address.strip())
        look(node, said)
        time.sleep(0.1)


def look(node, said):
    """Says the connections if they changed, and what each peer told of its addresses."""
    now = {"peers": {"connections": sorted(json.loads(node.ask("ListPeers")))}}
    for peer in json.loads(node.ask("ListPeersIDs")):
        addresses = json.loads(node.ask("FindPeer", peer, 1) or "null")
        now[peer] = {"peer": peer, "addresses": sorted(addresses or [])}
    for key, fields in now.items():
        if said.get(key) != fields:
            say("peers" if key == "peers" else "identified", **fields)
            said[key] = fields


def settings(folder):
    wanted = json.load(open(os.path.join(folder, "settings.json")))
    identity = os.path.join(folder, "identity")
    if os.path.exists(identity):
        key = base64.b64encode(open(identity, "rb").read()).decode()
        wanted["Identity"]["PrivKey"] = key
    return wanted


class Kubo:
    def __init__(self, library, repository):
        self.library = ctypes.CDLL(library)
        self.repository = repository

    def start(self, wanted):
        if self.call("CreateRepo") != 1:
            sys.exit("Kubo made no repository")
        path = os.path.join(self.repository, "config")
        config = json.load(open(path))
        merge(config, QUIET)
        merge(config, wanted)
        json.dump(config, open(path, "w"))
        if self.call("RunNode") != 1:
            sys.exit("Kubo did not start")

    def call(self, name, *args):
        plain = [arg.encode() if isinstance(arg, str) else arg for arg in args]
        return getattr(self.library, name)(self.repository.encode(), *plain)

    def ask(self, name, *args):
        getattr(self.library, name).restype = ctypes.c_void_p
        told = self.call(name, *args)
        return ctypes.string_at(told).decode() if told else None


def merge(into, wanted):
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


main(*sys.argv[1:])
