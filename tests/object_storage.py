"""A stand-in for Google Cloud Storage on this machine: the emulator of gcp-storage-emulator, with
the versions that the real one sends and takes as a condition, which the emulator does not."""

import contextlib
import io
import os
import re
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

BUCKET = "bucket"
# gcsfs, when it is imported: it must not ask by gRPC, which the stand-in does not speak.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


class _Handler(RequestHandler):
    one_at_a_time = threading.RLock()
    sent = None  # version of the object that is sent

    def _version(self, name):
        try:
            return self.storage.get_file_obj(BUCKET, name)["generation"]
        except NotFound:
            return "0"

    def do_GET(self):
        media = re.search(r"/o/([^?]+)\?(?:.*&)?alt=media", self.path)
        with self.one_at_a_time:
            self.sent = self._version(unquote(media.group(1))) if media else None
            super().do_GET()

    def end_headers(self):
        if self.sent is not None:
            self.send_header("x-goog-generation", self.sent)
        super().end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.rfile = io.BytesIO(body)
        wanted = parse_qs(urlsplit(self.path).query).get("ifGenerationMatch")
        with self.one_at_a_time:
            if wanted is not None and "/upload/" in self.path:
                in_url = re.search(r"[?&]name=([^&]*)", self.path)
                in_body = re.search(rb'"name": "([^"]*)"', body)
                name = unquote(in_url.group(1)) if in_url else in_body.group(1).decode()
                if self._version(name) != wanted[0]:
                    self.send_error(412)
                    return
            super().do_POST()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that hang up early are no news."""


@contextlib.contextmanager
def served():
    """Yields the environment variables with which programs find the stand-in, with an empty bucket
    in it, and its storage."""
    storage = Storage(use_memory_fs=True)
    create_bucket(BUCKET, storage)
    server = _Server(("localhost", 0), partial(_Handler, storage))
    url = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {
            "STORAGE_EMULATOR_HOST": url,  # gcsfs and google-cloud-storage
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # else TensorStore looks for an account
            "FSSPEC_GCS_TOKEN": "anon",
        }, storage  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
