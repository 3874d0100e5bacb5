# SPDX-License-Identifier: Apache-2.0
"""Plain routing as a peer: what the kernel does with the topology of two pods when there are routes in it and no more.

On one lab host:                                  On two:

   client ns          router         server ns       client ns       router a     router b       server ns
   10.77.1.2 ---veth--- .1 | .1 ---veth--- 10.77.2.2     10.77.3.2 ---veth--- .1 --LAN-- .1 ---veth--- 10.77.4.2

No BPF program and no netfilter rule on the way, unless whoever measures something else puts them there. The links are veths
with their defaults, as a pod's are.
"""


def _attach(node, name, subnet):
    """A namespace NAME at subnet.2 behind a veth of its own; the host at subnet.1 routes for it."""
    node.run("ip", "netns", "add", name)
    node.run("ip", "-batch", "-", text=f"link add {name} type veth peer name eth0 netns {name}\n"
                                       f"addr add {subnet}.1/24 dev {name}\n"
                                       f"link set {name} up\n")
    node.run("ip", "-n", name, "-batch", "-", text="link set lo up\n"
                                                   "link set eth0 up\n"
                                                   f"addr add {subnet}.2/24 dev eth0\n"
                                                   f"route add default via {subnet}.1\n")


class PlainRoute:
    """From a client's namespace on one node to a server's on the same or another one."""

    def __init__(self, client_node, server_node, number, net="10.77"):
        self.client_node = client_node
        self.server_node = server_node
        self.client = f"client{number}"
        self.server = f"server{number}"
        client_net, server_net = f"{net}.{2 * number - 1}", f"{net}.{2 * number}"
        self.server_ip = f"{server_net}.2"
        _attach(client_node, self.client, client_net)
        _attach(server_node, self.server, server_net)
        if client_node is not server_node:
            client_node.run("ip", "route", "add", f"{server_net}.0/24", "via", server_node.address)
            server_node.run("ip", "route", "add", f"{client_net}.0/24", "via", client_node.address)

    def run_client(self, *argv):
        return self.client_node.run("ip", "netns", "exec", self.client, *argv)

    def run_server(self, *argv):
        return self.server_node.run("ip", "netns", "exec", self.server, *argv)

    def start_server(self, *argv):
        return self.server_node.start("ip", "netns", "exec", self.server, *argv)
