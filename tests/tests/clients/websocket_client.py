"""Talks to a WebSocket that sends every message back. Usage: websocket_client.py HOST:PORT"""

import asyncio
import os
import sys

import websockets

ROUNDS = 200


async def main():
    async with websockets.connect("ws://%s/" % sys.argv[1], max_size=None) as socket:
        for number in range(ROUNDS):
            await socket.send("message %d" % number)
            assert await socket.recv() == "message %d" % number
        large = os.urandom(3 << 20)
        await socket.send(large)
        assert await socket.recv() == large
        await asyncio.wait_for(await socket.ping(), 30)
        # Several in flight at once.
        for number in range(ROUNDS):
            await socket.send(bytes([number]) * 1000)
        for number in range(ROUNDS):
            assert await socket.recv() == bytes([number]) * 1000
    print("closed with %d" % socket.close_code)


asyncio.run(main())
