"""What may answer in clearing's place: nonsense, a failure, a refusal, nobody, or somebody very slow."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "nonsense": (200, b"<html>Welcome to the hotel's network</html>"),
    "json": (200, b'{"status": "ok"}'),
    "failing": (500, b"Internal Server Error"),
    "refusing": (422, b'{"error": {"code": "certificate", "message": "the terminal is not known"}}'),
    "elsewhere": (302, b""),
    "missing": (404, b"not found"),
    "slow": (0, b""),
}


@contextmanager
def answering(kind: str) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers every POST alike, and the paths that were asked for."""
    asked: list[str] = []
    over = threading.Event()
    status, body = ANSWERS[kind]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.path)
            if not status:
                over.wait(30)
                return
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
