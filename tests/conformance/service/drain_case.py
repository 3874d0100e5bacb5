# SPDX-License-Identifier: Apache-2.0
"""shoal.dev/drain-timeout, one scenario for every data plane and way of a packet.

Connections of clients in every place to a group (`blue`, on h1 and h2) whose weight becomes 0: idle ones are only looked
at, busy ones are asked again and again. Beside them, to the same pods: connections through a Service with the same
weights and no timeout, and to the pods' own addresses.
"""
import json
import time
from collections import Counter
from datetime import datetime, timezone

from frame import FAMILIES, Cluster, wait_for

IN_TIME_S = 2  # after the timeout
MARGIN_S = 0.5  # before it, for a machine that is busy
HELD = 3


class DrainCase:
    BLUE = {"blue1", "blue2"}
    PORTS = "[{name: t, port: 80, targetPort: 7000}, {name: u, port: 80, targetPort: 7000, protocol: UDP}]"

    def weigh(self, name, blue, green, **annotations):
        return self.service(name, "type: LoadBalancer", ports=self.PORTS, annotations=json.dumps(
            {"shoal.dev/weights": f"version=blue:{blue},version=green:{green}"} | annotations))

    def places(self, service):
        """(client, address, port): outside clients also ask node ports, of a host without a blue pod."""
        node_port = service["spec"]["ports"][0]["nodePort"]
        return [(c, to, 80) for c, to in self.where(service)] + [
            ("outside", Cluster.address("h3", family), node_port) for family in FAMILIES]

    def held(self, client, to, port):
        held = self.hold(client, to, port, HELD)
        self.addCleanup(held.close)
        self.assertLessEqual(set(held.first["names"]), self.BLUE, f"{client} {to}:{port}: {held.first}")
        self.assertEqual(held.first["open"], HELD, f"{client} {to}:{port}: {held.first}")
        return held

    def drain(self, timeout_s, kill=()):
        self.servers("blue1", "blue2", hosts=["h1", "h2"], labels={"version": "blue"})
        self.servers("green", hosts=["h3"], labels={"version": "green"})
        web, kept = self.weigh("web", 100, 0), self.weigh("kept", 100, 0)
        places = self.places(web)
        for client, to, port in places + self.places(kept):
            self.wait_names(client, to, port, self.BLUE, n=10)
        idle = {place: self.held(*place) for place in places}
        busy = {place: self.held(*place) for place in places}
        others = [self.held(*place) for place in self.places(kept)]
        others += [self.held(c, Cluster.pod_ip(p, family), 7000) for p in self.items("pods", "-l", "version=blue")
                   for family in FAMILIES for c in ("pod", "host")]
        flows = [(to, 20_000 + i) for i, to in enumerate(self.vips_of(web))]
        answered = [self.datagram(*flow) for flow in flows]
        announcers = [self.announcers(to) for to, _ in flows]
        self.assertLessEqual(set(answered), self.BLUE)

        self.weigh("kept", 0, 100)
        due = self.due(self.weigh("web", 0, 100, **{"shoal.dev/drain-timeout": f"{timeout_s}s"})) + timeout_s
        for host in kill:
            self.cluster.kill_daemon(host)
            self.cluster.start_daemon(host)
        still = [self.datagram(*flow) for flow in flows]
        # UDP does not outlive a takeover of its VIP (on a machine so busy that a host seems dead).
        if time.time() < due - MARGIN_S and [self.announcers(to) for to, _ in flows] == announcers:
            self.assertEqual(still, answered, "datagrams of a flow move")
        while time.time() < due - MARGIN_S:
            self.assertEqual([h.check()["broken"] for h in busy.values()], [0] * len(busy), "busy, before the timeout")
            self.assertEqual([h.look()["open"] for h in idle.values()], [HELD] * len(idle), "idle, before the timeout")
        self.all_end(idle, due + IN_TIME_S)
        self.assertEqual({place: h.check()["broken"] for place, h in busy.items()}, dict.fromkeys(busy, HELD))
        self.assertEqual([h.check()["broken"] for h in others], [0] * len(others), "what is not of the group")
        self.assertEqual({self.datagram(*flow) for flow in flows}, {"green"})
        for client, to, port in places:
            self.assertEqual(set(self.names(client, to, port, n=5)), {"green"})
        wait_for("the servers' ends to be closed", lambda: self.accepted() == HELD * len(others), 5,
                 on_timeout=lambda: f"{self.accepted()} connections, not {HELD * len(others)}")
        return len(places) * 2 * HELD

    @staticmethod
    def due(service):
        since = service["metadata"]["annotations"]["shoal.dev/weight-zero-since"].removeprefix("version=blue:")
        return datetime.fromisoformat(since[:26]).replace(tzinfo=timezone.utc).timestamp()

    def datagram(self, to, source_port):
        answer = self.ask("outside", to, 80, "udp", 1, "--source-port", source_port)[0]
        return answer.get("name", answer.get("error"))

    def all_end(self, idle, until):
        ended = {place: Counter() for place in idle}
        while True:
            late = time.time() >= until  # also a machine too busy to look before: they have ended by then
            for place, held in idle.items():
                ended[place].update(held.look()["ended"])
            if late or all(e.total() >= HELD for e in ended.values()):
                break
        left = {place: dict(e) for place, e in ended.items() if e.total() < HELD}
        self.assertEqual(left, {}, f"not closed in time; in all: {ended}")
        self.assertLessEqual({error for e in ended.values() for error in e}, {"ECONNRESET", "ECONNABORTED"}, ended)

    def accepted(self):
        """Open connections of the blue pods, as their kernels have them."""
        n = 0
        for name, host in (("blue1", "h1"), ("blue2", "h2")):
            table = self.cluster.shoal(host, "exec", name, "-n", self.ns, "--", "/bin/cat", "/proc/net/tcp6").stdout
            for line in table.splitlines()[1:]:
                fields = line.split()
                n += fields[1].endswith(":1B58") and fields[3] == "01"  # port 7000, ESTABLISHED
        return n
