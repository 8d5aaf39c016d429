"""Tells who asks by which address it is seen, by DNS on port 53 and by HTTP and HTTPS; run in a namespace."""

from __future__ import annotations

import http.server
import socket
import ssl
import sys
import threading

import dns.message
import dns.rrset


def answer_dns(sock: socket.socket) -> None:
    """Answer every question for a text or an address with the address of who asks."""
    while True:
        wire, sender = sock.recvfrom(4096)
        query = dns.message.from_wire(wire)
        [question] = query.question
        told = "127.0.0.1" if question.name.to_text().startswith("odd") else sender[0]
        text = f'"{told}"' if question.rdtype.name == "TXT" else told
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text(question.name, 0, question.rdclass, question.rdtype, text))
        sock.sendto(response.to_wire(), sender)


class Page(http.server.BaseHTTPRequestHandler):
    """The address of who asks; /odd tells something else, /slow nothing, /drops a byte at a time."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        if self.path == "/slow":
            threading.Event().wait(60)
        while self.path == "/drops":
            self.wfile.write(b" ")
            threading.Event().wait(0.3)
        self.wfile.write(b"<html>" * 1_000 if self.path == "/odd" else f"{self.client_address[0]}\n".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve at an address, with a certificate and its key for HTTPS."""
    address, certificate, key = sys.argv[1:]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 53))
    plain = http.server.ThreadingHTTPServer((address, 80), Page)
    secure = http.server.ThreadingHTTPServer((address, 443), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    for serve in (plain.serve_forever, secure.serve_forever):
        threading.Thread(target=serve, daemon=True).start()
    answer_dns(sock)


if __name__ == "__main__":
    main()
