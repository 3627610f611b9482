"""Load on the screening service: many clients for a minute on the loopback; no error but 429, memory flat.

    python scripts/load_screening_service.py --bundle runs/demo_face/bundle --files photo.jpg clip.mp4

Starts `deepassay serve` on a free port of 127.0.0.1, lets 64 clients send files for 60 seconds, each its next request
as soon as it has an answer (after the pause that a 429 asks for), and samples the memory of the service and its
workers every second. Needs the extra 'serve'. Exit code 1: an answer other than 200 and 429, a connection that broke,
a verdict that differs from the first on the same file, or memory that grew by more than --growth-mib from the second
quarter of the time to the last (medians).
"""

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident_mib(pid: int) -> float:
    """Resident memory of a process and all its descendants, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    total, stack = 0, [pid]
    while stack:
        one = stack.pop()
        stack += children.get(one, [])
        try:
            total += int((Path("/proc") / str(one) / "statm").read_text().split()[1])
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Client(threading.Thread):
    """Sends files one after the other until the time is up."""

    def __init__(self, number: int, port: int, files: list[tuple[str, bytes]], until: float, pause: float) -> None:
        super().__init__(daemon=True)
        self.number, self.port, self.files, self.until, self.pause = number, port, files, until, pause
        self.codes = Counter[str]()
        self.seconds: list[float] = []
        self.verdicts: dict[str, set[str]] = {}

    def run(self) -> None:
        """Until the time is up."""
        turn = self.number
        while time.monotonic() < self.until:
            name, content = self.files[turn % len(self.files)]
            turn += 1
            begin = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
                connection.request("POST", "/v1/screen", content, {"Content-Type": "application/octet-stream"})
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
            except OSError as error:
                self.codes[type(error).__name__] += 1
                continue
            self.codes[str(answer.status)] += 1
            if answer.status == 200:
                self.seconds.append(time.monotonic() - begin)
                told = [(v["modality"], v["decision"], v["score"]) for v in json.loads(body)["verdicts"]]
                self.verdicts.setdefault(name, set()).add(json.dumps(told))
            elif answer.status == 429:
                time.sleep(min(float(answer.headers.get("Retry-After", self.pause)), self.pause))


def main() -> int:
    """Serve, load, measure, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", required=True, help="one per modality")
    parser.add_argument("--files", nargs="+", type=Path, required=True, help="what the clients send, in turn")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.5, help="most seconds that a client waits after a 429")
    parser.add_argument("--growth-mib", type=float, default=100.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    port = free_port()
    words = [sys.executable, "-m", "deepassay", "serve", "--port", str(port), "--workers", str(args.workers)]
    for bundle in args.bundle:
        words += ["--bundle", bundle]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    service = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    try:
        if not service.stdout.readline().startswith("screening at"):
            print(f"the service did not start (exit code {service.wait()})", file=sys.stderr)
            return 1
        ready = time.monotonic() + 120
        while time.monotonic() < ready:
            try:
                probe = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                probe.request("GET", "/readyz")
                if probe.getresponse().status == 200:
                    break
            except OSError:
                pass  # not listening yet
            time.sleep(0.2)
        else:
            print("the service was not ready within two minutes", file=sys.stderr)
            return 1
        files = [(path.name, path.read_bytes()) for path in args.files]
        until = time.monotonic() + args.seconds
        clients = [Client(number, port, files, until, args.pause) for number in range(args.clients)]
        for client in clients:
            client.start()
        memory = []
        while any(client.is_alive() for client in clients):
            memory.append(resident_mib(service.pid))
            time.sleep(1.0)
        alive = service.poll() is None
        service.send_signal(signal.SIGTERM)
        code = service.wait(60)
    finally:
        if service.poll() is None:
            service.kill()
    codes = sum((client.codes for client in clients), Counter())
    seconds = sorted(s for client in clients for s in client.seconds)
    told: dict[str, set[str]] = {}
    for client in clients:
        for name, verdicts in client.verdicts.items():
            told.setdefault(name, set()).update(verdicts)
    quarter = max(1, len(memory) // 4)
    before, after = statistics.median(memory[quarter : 2 * quarter] or memory), statistics.median(memory[-quarter:])
    numbers = {
        "clients": args.clients,
        "seconds": args.seconds,
        "workers": args.workers,
        "answers": dict(codes),
        "judged_per_s": len(seconds) / args.seconds,
        "p50_s": seconds[len(seconds) // 2] if seconds else None,
        "p95_s": seconds[int(0.95 * (len(seconds) - 1))] if seconds else None,
        "memory_mib": {"second_quarter": before, "last_quarter": after, "peak": max(memory)},
        "ended_by_sigterm": code,
    }
    goals = {
        "some file was judged": bool(seconds),
        "no answer but 200 and 429": set(codes) <= {"200", "429"},
        "the same verdict for the same file every time": all(len(verdicts) == 1 for verdicts in told.values()),
        f"memory grew by at most {args.growth_mib:g} MiB": after - before <= args.growth_mib,
        # uvicorn answers what it let in, closes, and then raises the signal again.
        "the service lived to the end and closed in order": alive and code in (0, -signal.SIGTERM),
    }
    print(json.dumps(numbers, indent=2))
    for goal, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'}  {goal}")
    if args.json:
        args.json.write_text(json.dumps({**numbers, "goals": goals}, indent=2) + "\n")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
