"""Starts the proxy beside zeroconf and etcd, stops it, and compares what they saw with what it should have done."""

import base64
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from zeroconf import DNSPointer, DNSService, RecordUpdateListener, ServiceBrowser, ServiceStateChange, Zeroconf

PATIENCE = 30
EDGE, HERE = sys.argv[1:3]
PROXY = sys.argv[3:]
KIND = "_http._tcp.local."
NAME = f"edge-1.{KIND}"
ETCD = f"http://{HERE}:2379"
KEY = "/services/edge/edge-1"


def eventually(what, look):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"{what}: not within {PATIENCE} s")


def etcd(path, **body):
    request = urllib.request.Request(ETCD + path, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def entries():
    found = etcd("/v3/kv/range", key=encoded(KEY)).get("kvs", [])
    return [json.loads(base64.b64decode(entry["value"])) for entry in found]


def etcd_answers():
    try:
        return etcd("/v3/maintenance/status")
    except OSError:
        return None


class Records(RecordUpdateListener):
    """Every record about the service, as it came off the wire."""

    def __init__(self):
        self.seen = queue.Queue()

    def async_update_records(self, zeroconf, now, records):
        for update in records:
            record = update.new
            if isinstance(record, DNSService) and record.name == NAME:
                self.seen.put(("SRV", record.port, record.ttl))
            elif isinstance(record, DNSPointer) and record.alias == NAME:
                self.seen.put(("PTR", None, record.ttl))


class Proxy:
    started = []

    def __init__(self, config):
        self.process = subprocess.Popen(
            [*PROXY, "-c", config, "--log", "json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.log = []
        self.started.append(self)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stderr:
            self.log.append(json.loads(line))

    def find(self, message):
        return eventually(
            f"the proxy says `{message}`", lambda: next((l for l in self.log if l.get("message") == message), None)
        )

    def stop(self, how):
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")
    print(f"ok: {what}: {found!r}")


def main(directory):
    config = os.path.join(directory, "proxy.yaml")
    with open(config, "w") as file:
        file.write(
            f'listen_addrs: ["{EDGE}:0"]\nlame_duck: 3\n'
            f"discovery: {{id: edge-1, service: edge, mdns: {{}}, etcd: {{endpoints: ['{ETCD}'], ttl: 2}}}}\n"
        )
    records, states = Records(), queue.Queue()
    zeroconf = Zeroconf(interfaces=[HERE])
    zeroconf.add_listener(records, None)

    def changed(zeroconf, service_type, name, state_change):
        states.put((name, state_change))

    ServiceBrowser(zeroconf, KIND, handlers=[changed])

    proxy = Proxy(config)
    port = int(proxy.find("listening")["address"].rpartition(":")[2])
    expect("the observer sees it come", states.get(timeout=PATIENCE), (NAME, ServiceStateChange.Added))
    info = zeroconf.get_service_info(KIND, NAME, timeout=PATIENCE * 1000)
    expect("its announced port", info.port, port)
    expect("its announced address", info.parsed_addresses(), [EDGE])
    expect("its entry in etcd", eventually("an entry", entries), [{"id": "edge-1", "address": EDGE, "port": port}])
    # The lease is kept: the entry outlives it by far.
    granted = etcd("/v3/lease/leases")["leases"]
    time.sleep(4)
    expect("its lease, twice its time later", etcd("/v3/lease/leases")["leases"], granted)
    expect("its entry then", len(entries()), 1)

    while not records.seen.empty():
        records.seen.get()
    proxy.process.send_signal(signal.SIGTERM)
    eventually("the entry is gone while the lame duck serves", lambda: not entries())
    expect("the proxy then", proxy.process.poll(), None)
    goodbyes = []
    while {kind for kind, _, _ in goodbyes} != {"SRV", "PTR"}:
        goodbyes.append(records.seen.get(timeout=PATIENCE))
    expect("the TTLs of its last records", {ttl for _, _, ttl in goodbyes}, {0})
    expect("their port", {of for kind, of, _ in goodbyes if kind == "SRV"}, {port})
    expect("the exit code", proxy.process.wait(PATIENCE), 0)
    gone = eventually("a change", lambda: states.get(timeout=PATIENCE))
    while gone[1] is ServiceStateChange.Updated:
        gone = states.get(timeout=PATIENCE)
    expect("the observer sees it go", gone, (NAME, ServiceStateChange.Removed))
    expect("leases left in etcd", etcd("/v3/lease/leases").get("leases", []), [])

    proxy = Proxy(config)
    eventually("an entry", entries)
    proxy.stop(signal.SIGKILL)
    eventually("the lease of a proxy that was killed runs out", lambda: not entries())
    print("ok: what was killed is forgotten")
    zeroconf.close()


with tempfile.TemporaryDirectory() as directory:
    server = subprocess.Popen(
        ["etcd", "--data-dir", os.path.join(directory, "etcd"), "--listen-client-urls", ETCD]
        + ["--advertise-client-urls", ETCD, "--listen-peer-urls", f"http://{HERE}:2380"]
        + ["--initial-advertise-peer-urls", f"http://{HERE}:2380"]
        + ["--initial-cluster", f"default=http://{HERE}:2380"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually("etcd answers", etcd_answers)
        main(directory)
    finally:
        for proxy in Proxy.started:
            if proxy.process.poll() is None:
                proxy.process.kill()
                print(*proxy.log, sep="\n")
        server.terminate()
        server.wait(PATIENCE)
print("1 passed, 0 failed")
