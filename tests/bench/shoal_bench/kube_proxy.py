# SPDX-License-Identifier: Apache-2.0
"""Rule sets in the shape that kube-proxy gives them, so that anybody can hold Shoal against it without a cluster.

iptables: KUBE-SERVICES leads to a chain a Service, that to a chain an endpoint by `statistic`; nftables: one verdict map for all
Services, a chain a Service with `numgen random`, a chain an endpoint. TCP, port 80 to 8080, no affinity, all endpoints ready.
What kube-proxy has once and not for each Service is in iptables_frame() and nft_frame(): the checks of new connections before
and after the routing, masquerading by mark, NodePorts. It goes on top, for packets to meet all of it.

`real` ({number: [address]}) gives Services endpoints that exist; the others' are addresses of nobody.
"""

PODS = "10.128.0.0/9"  # who needs no masquerade; a client of a real Service belongs in it
SERVICE_PORT = 80
ENDPOINT_PORT = 8080


def service_ip(number):
    return f"10.96.{number // 250}.{number % 250 + 1}"


def endpoint_ip(number, backends, i):
    at = number * backends + i
    return f"10.{128 + at // 62500}.{at // 250 % 250}.{at % 250 + 1}"


def _endpoints(number, backends, real=None):
    return (real or {}).get(number) or [endpoint_ip(number, backends, i) for i in range(backends)]


def _iptables_service(number, endpoints):
    service, ip = f"KUBE-SVC-{number:016X}", service_ip(number)
    lines = [f"-A {service} ! -s {PODS} -d {ip}/32 -p tcp -m comment --comment \"default/s{number} cluster IP\" -m tcp "
             "--dport 80 -j KUBE-MARK-MASQ"]
    for i, to in enumerate(endpoints):
        endpoint = f"KUBE-SEP-{number:08X}{i:08X}"
        left = len(endpoints) - i
        chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        lines += [f"-A {service} -m comment --comment \"default/s{number} -> {to}:8080\" {chance}-j {endpoint}",
                  f"-A {endpoint} -s {to}/32 -m comment --comment default/s{number} -j KUBE-MARK-MASQ",
                  f"-A {endpoint} -p tcp -m comment --comment default/s{number} -m tcp -j DNAT --to-destination {to}:8080"]
    return lines


def _iptables_chains(number, endpoints):
    return [f":KUBE-SVC-{number:016X} - [0:0]", *(f":KUBE-SEP-{number:08X}{i:08X} - [0:0]" for i in range(len(endpoints)))]


def iptables(services, backends, real=None):
    """For iptables-restore."""
    chains = [":KUBE-SERVICES - [0:0]", ":KUBE-MARK-MASQ - [0:0]"]
    rules = ["-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
             "-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
             "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000"]
    for number in range(services):
        endpoints = _endpoints(number, backends, real)
        chains += _iptables_chains(number, endpoints)
        rules.append(f"-A KUBE-SERVICES -d {service_ip(number)}/32 -p tcp -m comment --comment \"default/s{number} cluster IP\" "
                     f"-m tcp --dport 80 -j KUBE-SVC-{number:016X}")
        rules += _iptables_service(number, endpoints)
    return "\n".join(["*nat", *chains, *rules, "COMMIT", ""])


def iptables_frame():
    """For iptables-restore --noflush, after iptables(). No Service lacks endpoints or has a NodePort: those chains are empty."""
    new = "-m conntrack --ctstate NEW"
    return "\n".join([
        "*filter", ":KUBE-FORWARD - [0:0]", ":KUBE-SERVICES - [0:0]", ":KUBE-EXTERNAL-SERVICES - [0:0]",
        ":KUBE-PROXY-FIREWALL - [0:0]",
        f"-A FORWARD {new} -m comment --comment \"load balancers' sources\" -j KUBE-PROXY-FIREWALL",
        "-A FORWARD -m comment --comment \"forwarding\" -j KUBE-FORWARD",
        f"-A FORWARD {new} -m comment --comment \"without endpoints\" -j KUBE-SERVICES",
        f"-A FORWARD {new} -m comment --comment \"external, without endpoints\" -j KUBE-EXTERNAL-SERVICES",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A KUBE-FORWARD -m comment --comment \"forwarding\" -m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-A KUBE-FORWARD -m comment --comment \"forwarding, known\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "COMMIT",
        "*nat", ":KUBE-NODEPORTS - [0:0]", ":KUBE-POSTROUTING - [0:0]",
        "-A KUBE-SERVICES -m comment --comment \"node ports, the last rule\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
        "-A POSTROUTING -m comment --comment \"masquerading\" -j KUBE-POSTROUTING",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        "-A KUBE-POSTROUTING -m comment --comment \"masquerading\" -j MASQUERADE --random-fully",
        "COMMIT", ""])


def iptables_change(number, backends):
    """For iptables-restore --noflush: the chains of one Service, with one endpoint less, as a partial sync writes them."""
    endpoints = _endpoints(number, backends)[:-1]
    return "\n".join(["*nat", *_iptables_chains(number, endpoints), *_iptables_service(number, endpoints), "COMMIT", ""])


def _nft_service(number, endpoints):
    spread = ", ".join(f"{i} : goto endpoint-{number}-{i}" for i in range(len(endpoints)))
    lines = [f"add rule ip kube-proxy service-{number} ip daddr {service_ip(number)} tcp dport 80 ip saddr != {PODS} "
             "jump mark-for-masquerade",
             f"add rule ip kube-proxy service-{number} numgen random mod {len(endpoints)} vmap {{ {spread} }}"]
    for i, to in enumerate(endpoints):
        lines += [f"add rule ip kube-proxy endpoint-{number}-{i} ip saddr {to} jump mark-for-masquerade",
                  f"add rule ip kube-proxy endpoint-{number}-{i} meta l4proto tcp dnat to {to}:8080"]
    return lines


def nft(services, backends, real=None):
    """For nft -f."""
    lines = ["add table ip kube-proxy", "add chain ip kube-proxy mark-for-masquerade",
             "add rule ip kube-proxy mark-for-masquerade meta mark set meta mark or 0x4000",
             "add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }"]
    for hook, name in (("prerouting", "dstnat"), ("output", "dstnat")):
        chain = f"nat-{hook}"
        lines += [f"add chain ip kube-proxy {chain} {{ type nat hook {hook} priority {'-100' if hook == 'output' else name} ; }}",
                  f"add rule ip kube-proxy {chain} ip daddr . meta l4proto . th dport vmap @service-ips"]
    for number in range(services):
        lines.append(f"add chain ip kube-proxy service-{number}")
        lines += [f"add chain ip kube-proxy endpoint-{number}-{i}" for i in range(len(_endpoints(number, backends, real)))]
    for number in range(services):
        lines += _nft_service(number, _endpoints(number, backends, real))
        lines.append(f"add element ip kube-proxy service-ips {{ {service_ip(number)} . tcp . 80 : goto service-{number} }}")
    return "\n".join([*lines, ""])


def nft_frame(services, node_ip):
    """For nft -f, after nft(). No Service lacks endpoints, has a NodePort or restricts its clients: those maps are empty."""
    table = "ip kube-proxy"
    by_port = "ip daddr . meta l4proto . th dport vmap"
    lines = [f"add map {table} {name} {{ type {kind} : verdict ; }}" for name, kind in (
        ("no-endpoint-services", "ipv4_addr . inet_proto . inet_service"),
        ("firewall-ips", "ipv4_addr . inet_proto . inet_service"), ("service-nodeports", "inet_proto . inet_service"))]
    lines += [f"add set {table} {name} {{ type ipv4_addr ; }}" for name in ("cluster-ips", "nodeport-ips")]
    lines += [f"add element {table} nodeport-ips {{ {node_ip} }}",
              f"add element {table} cluster-ips {{ {', '.join(service_ip(number) for number in range(services))} }}"]
    lines += [f"add chain {table} {name}" for name in ("firewall-check", "endpoints-check", "cluster-ips-check", "masquerading")]
    lines += [f"add chain {table} {name} {{ type {kind} hook {hook} priority {priority} ; }}" for name, kind, hook, priority in (
        ("before-dnat", "filter", "prerouting", -110), ("forward", "filter", "forward", 0),
        ("nat-postrouting", "nat", "postrouting", 100))]
    rules = [("firewall-check", f"{by_port} @firewall-ips"), ("endpoints-check", f"{by_port} @no-endpoint-services"),
             ("cluster-ips-check", "ip daddr @cluster-ips reject"), ("cluster-ips-check", "ip daddr 10.96.0.0/12 drop"),
             ("before-dnat", "ct state new jump firewall-check"), ("forward", "ct state new jump endpoints-check"),
             ("forward", "ct state new jump cluster-ips-check"),
             ("nat-prerouting", "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"),
             ("masquerading", "meta mark and 0x4000 == 0 return"), ("masquerading", "meta mark set meta mark xor 0x4000"),
             ("masquerading", "masquerade fully-random"), ("nat-postrouting", "jump masquerading")]
    return "\n".join([*lines, *(f"add rule {table} {chain} {rule}" for chain, rule in rules), ""])


def nft_change(number, backends):
    """For nft -f: one Service's chain anew, with one endpoint less."""
    lines = _nft_service(number, _endpoints(number, backends)[:-1])
    return "\n".join([f"flush chain ip kube-proxy service-{number}", *lines[:2], ""])
