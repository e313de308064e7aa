"""Opens a WebSocket, has a message echoed, and prints the code with which the server closed it."""
import asyncio
import sys

import websockets


async def main():
    async with websockets.connect(f"ws://127.0.0.1:{sys.argv[1]}/ws") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        print("ready", flush=True)
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            print(f"closed with {closed.code}")


asyncio.run(main())
