"""A door to a server that a test can close: a process that passes bytes on.

``Gateway`` starts this file as a program; killing it breaks all connections, as when the server
goes away.
"""

import asyncio
import socket
import subprocess
import sys


class Gateway:
    """A port of this machine behind which a server is, while the gateway is open.

    Args:
        host: Host of the server.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = [host, str(port)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Gateway":
        """Open it; a second time, at the same port."""
        from tiny_runs import wait_until  # not in the program, which starts at once

        self._process = subprocess.Popen([sys.executable, __file__, str(self.port), *self._server])
        wait_until(self._is_open)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it, if it is open."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _is_open(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


async def serve(port: int, host: str, server_port: int) -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(65_536):
            writer.write(content)
            await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection(host, server_port)
        await asyncio.gather(copy(reader, to_them), copy(theirs, writer), return_exceptions=True)

    async with await asyncio.start_server(connect, "127.0.0.1", port) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
