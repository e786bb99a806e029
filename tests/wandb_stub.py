"""A STUB of W&B's server: GraphQL over HTTP on loopback, with the operations that `wandb.Api` needs to read runs.

The client is the real one. The stub serves runs that our reader has read from files of the real wandb, so only the
transport is simulated.
"""

import base64
import gzip
import json
import re
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENTITY, PROJECT = "team", "lab"
KEY = "0123456789abcdef0123456789abcdef01234567"


class WandbStub:
    """Serves the runs of one project; ``requests`` has (operation, variables) of every answered request."""

    def __init__(self, runs) -> None:
        self.runs = sorted(runs, key=lambda run: run.started)
        self.requests = []
        self.failures = []
        """Status codes for the next requests for runs, e.g. [500, 429]."""
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/graphql":  # the client's telemetry
                    self._send(200, {})
                    return
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = json.loads(body)
                status, answer = stub._answer(request["query"], request.get("variables") or {})
                self._send(status, answer)

            def do_GET(self) -> None:
                self._send(404, {"error": "nothing here"})

            def _send(self, status, answer) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self):
        """The environment in which the client uses the stub."""
        port = self._server.server_address[1]
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY}

    def operations(self, name):
        """Return the variables of all requests of one operation."""
        return [variables for operation, variables in self.requests if operation == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, query, variables):
        (operation,) = re.findall(r"(?:query|mutation)\s+(\w+)", query)[:1] or [""]
        if operation == "Runs" and self.failures:
            return self.failures.pop(0), {"errors": [{"message": "the stub was told to fail"}]}
        self.requests.append((operation, variables))
        answer = getattr(self, f"_{operation.lower()}", None)
        if answer is None:
            return 200, {"errors": [{"message": f"the stub has no operation {operation}"}], "data": None}
        return 200, {"data": answer(variables)}

    def _viewer(self, _):
        account = {"id": "1", "username": ENTITY, "name": ENTITY, "email": "", "entity": ENTITY, "admin": False}
        return {"viewer": {**account, "flags": "{}", "teams": {"edges": []}}}

    _getdefaultentity = _viewer

    def _runs(self, variables):
        if (variables["entity"], variables["project"]) != (ENTITY, PROJECT):
            return {"project": None}
        matching = [run for run in self.runs if _matches(run, json.loads(variables["filters"]))]
        start = int(base64.b64decode(variables.get("cursor") or base64.b64encode(b"0")))
        end = start + variables["perPage"]
        edges = [
            {"node": _node(run), "cursor": base64.b64encode(str(start + number + 1).encode()).decode()}
            for number, run in enumerate(matching[start:end])
        ]
        page = {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": end < len(matching)}
        return {
            "project": {
                "internalId": "1",
                "runCount": len(matching),
                "readOnly": False,
                "runs": {"edges": edges, "pageInfo": page},
            }
        }

    def _run_answer(self, variables, fields):
        run = next(
            run
            for run in self.runs
            if run.id == (variables.get("name") or variables.get("runName") or variables["run"])
        )
        return {"project": {"run": fields(run)}}

    def _runhistorykeys(self, variables):
        return self._run_answer(variables, lambda run: {"historyKeys": {"lastStep": len(run.history) - 1, "keys": {}}})

    def _runparquethistory(self, variables):
        return self._run_answer(variables, lambda run: {"parquetHistory": {"parquetUrls": [], "liveData": []}})

    def _historypage(self, variables):
        first, end = int(variables["minStep"]), int(variables["maxStep"])
        return self._run_answer(
            variables,
            # In offline files, _step starts at 0 in each process of a run; the server numbers all rows consecutively.
            lambda run: {"history": [json.dumps({**row, "_step": n}) for n, row in enumerate(run.history)][first:end]},
        )


def _matches(run, filters):
    fields = {"group": run.group, "state": run.status}
    for key, value in filters.items():
        if key == "$and":
            if not all(_matches(run, part) for part in value):
                return False
        elif key == "tags":
            if not set(value["$in"]) & set(run.tags):
                return False
        elif fields[key] != value:
            return False
    return True


def _node(run):
    when = datetime.fromtimestamp(run.started, UTC).isoformat()
    return {
        "id": run.id,
        "projectId": "1",
        "name": run.id,
        "displayName": run.name,
        "tags": list(run.tags),
        "group": run.group,
        "state": run.status,
        "sweepName": None,
        "jobType": None,
        "commit": None,
        "readOnly": False,
        "createdAt": when,
        "heartbeatAt": when,
        "description": None,
        "notes": None,
        "historyLineCount": len(run.history),
        "user": {"name": ENTITY, "username": ENTITY},
        "config": json.dumps({key: {"value": value, "desc": None} for key, value in run.config.items()}),
        "summaryMetrics": json.dumps(run.summary),
        "systemMetrics": "{}",
        "historyKeys": None,
    }
