"""A WebSocket server that sends every message back."""

import asyncio
import json

import websockets


async def echo(socket, _path=None):
    async for message in socket:
        await socket.send(message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"event": "listening", "address": "127.0.0.1:%d" % port}), flush=True)
        await asyncio.Future()


asyncio.run(main())
