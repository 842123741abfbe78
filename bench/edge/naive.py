"""The control of floods.py: an HTTP/2 server with no limit at all, which keeps what it gets and owes what it is asked.

Whatever it counts and however it grows, an attack did it. It answers nobody. It tells what it saw, as JSON, to
everybody who connects to its second port.
"""

import asyncio
import json
import ssl
import sys
from collections import Counter

PREFACE = 24
KINDS = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"]
HEADERS, SETTINGS, PING, CONTINUATION = 1, 4, 6, 9
# A byte that stands for the newest entry of the table, which in the attack is so long.
INDEXED, ENTRY = 0xBE, 4000
BODY = 1024 * 1024

# It would take all that the machine has.
KEPT_MAX = 256 * 1024 * 1024

seen = Counter()
kept = []


def keep(size):
    if seen["kept"] + size <= KEPT_MAX:
        kept.append(b"x" * size)
        seen["kept"] += size


async def serve(reader, writer):
    seen["connections"] += 1
    seen["open"] += 1
    try:
        await follow(reader, writer)
    except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
        pass
    finally:
        seen["open"] -= 1
        writer.close()


async def follow(reader, writer):
    if writer.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
        while part := await reader.read(65536):
            seen["bytes"] += len(part)
            keep(len(part))
        return
    await reader.readexactly(PREFACE)
    writer.write(bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]))
    buffer = b""
    while part := await reader.read(65536):
        seen["bytes"] += len(part)
        buffer += part
        at = 0
        while len(buffer) - at >= 9:
            length, kind, flags = int.from_bytes(buffer[at:at + 3], "big"), buffer[at + 3], buffer[at + 4]
            if len(buffer) - at < 9 + length:
                break
            content = buffer[at + 9:at + 9 + length]
            at += 9 + length
            seen[KINDS[kind] if kind < len(KINDS) else "others"] += 1
            # What a server without limits does: it acknowledges without looking whether anybody reads, keeps heads as
            # they grow, and makes whole answers that wait for a window.
            if kind in (SETTINGS, PING) and not flags & 1:
                writer.write(bytes([0, 0, len(content) if kind == PING else 0, kind, 1, 0, 0, 0, 0]) + (content if kind == PING else b""))
            elif kind in (HEADERS, CONTINUATION):
                keep(len(content) + ENTRY * content.count(INDEXED))
                if kind == HEADERS and flags & 1:
                    keep(BODY)
        buffer = buffer[at:]
        if writer.is_closing():
            return


async def tell(_, writer):
    writer.write(json.dumps(seen).encode())
    await writer.drain()
    writer.close()


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    context.set_alpn_protocols(["h2", "http/1.1"])
    attacked = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), ssl=context, backlog=4096)
    asked = await asyncio.start_server(tell, "127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(attacked.serve_forever(), asked.serve_forever())


if __name__ == "__main__":
    asyncio.run(main())
