"""Requests a slow response over HTTP/2, and prints what came until the server closed the connection."""
import socket
import sys

import h2.config
import h2.connection

sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
# A client must go on after a GOAWAY, which the h2 library refuses. So this reads frames by hand.
conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
conn.initiate_connection()
conn.send_headers(
    1,
    [(":method", "GET"), (":path", "/slow?ms=800"), (":scheme", "http"), (":authority", "a")],
    end_stream=True,
)
sock.sendall(conn.data_to_send())


def frames():
    data = b""
    while True:
        chunk = sock.recv(65536)
        if not chunk:
            return
        data += chunk
        while len(data) >= 9:
            length = int.from_bytes(data[:3], "big")
            if len(data) < 9 + length:
                break
            yield data[3], data[4], data[9 : 9 + length]
            data = data[9 + length :]


DATA, SETTINGS, PING, GOAWAY = 0, 4, 6, 7
ACK = 1
said, read = [], 0
for kind, flags, payload in frames():
    if kind == SETTINGS and not flags & ACK:
        sock.sendall(b"\0\0\0\x04\x01\0\0\0\0")
        print("ready", flush=True)
    elif kind == PING and not flags & ACK:
        sock.sendall(b"\0\0\x08\x06\x01\0\0\0\0" + payload)
    elif kind == GOAWAY:
        said.append(f"goaway {int.from_bytes(payload[:4], 'big') & 0x7fffffff}")
    elif kind == DATA:
        read += len(payload)
print(", ".join(said + [f"{read} bytes", "closed"]))
