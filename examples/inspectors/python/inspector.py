#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drop DNS questions for blocked.example, mark those for marked.example, accept the rest."""
import socket
import struct
import sys
import time

HELLO, WELCOME, BATCH, VERDICTS, BYE = 1, 2, 5, 6, 7
ACCEPT, DROP = 1, 2
BLOCKED, MARKED, MARK = b"blocked.example", b"marked.example", 0x01000000


def question(packet):
    """The name that a packet asks DNS for, in lower case, or None."""
    if len(packet) < 28 or packet[0] >> 4 not in (4, 6):
        return None
    v4 = packet[0] >> 4 == 4
    protocol, at = (packet[9], (packet[0] & 15) * 4) if v4 else (packet[6], 40)
    if protocol != 17 or packet[at + 2 : at + 4] != b"\0\x35":
        return None
    labels, at = [], at + 8 + 12
    while at < len(packet) and 0 < packet[at] < 64:
        labels.append(packet[at + 1 : at + 1 + packet[at]].lower())
        at += 1 + packet[at]
    return b".".join(labels)


def judge(packet):
    """The action, the mark, and which bits of it count."""
    name = question(packet)
    if name == BLOCKED:
        return DROP, 0, 0
    return (ACCEPT, MARK, MARK) if name == MARKED else (ACCEPT, 0, 0)


def verdicts(message):
    """The VERDICTS about a BATCH."""
    sequence, count = struct.unpack_from("<IH", message, 8)
    answers = b""
    for i in range(count):
        packet, _, captured, offset = struct.unpack_from("<4I", message, 24 + 64 * i)
        action, mark, mask = judge(message[offset : offset + captured])
        answers += struct.pack("<IB3xII", packet, action, mark, mask)
    head = struct.pack("<HHIIHH", VERDICTS, 0, 16 + len(answers), sequence, count, 0)
    return head + answers


def serve(connection):
    name = b"python example"
    connection.send(struct.pack("<HHI4sHHIIHHI", HELLO, 0, 32 + len(name), b"nsqI", 1, 0, 0, 0,
                                0, len(name), 0) + name)
    while message := connection.recv(131072):
        kind = struct.unpack_from("<H", message)[0]
        if kind == WELCOME:
            print("connected", flush=True)
        elif kind == BATCH:
            connection.send(verdicts(message))
        elif kind == BYE:
            print("nsqueued says", message[16:], flush=True)


def main(path):
    while True:  # nsqueued may start later, and start again
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.connect(path)
                serve(connection)
        except OSError as error:
            print("away:", error, flush=True)
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
