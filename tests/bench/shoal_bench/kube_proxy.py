# SPDX-License-Identifier: Apache-2.0
"""Rule sets in the shape that kube-proxy gives them, so that anybody can hold Shoal against it without a cluster.

iptables: KUBE-SERVICES leads to a chain a Service, that to a chain an endpoint by `statistic`; nftables: one verdict map for all
Services, a chain a Service with `numgen random`, a chain an endpoint. TCP, port 80 to 8080, no affinity, all endpoints ready.
"""


def service_ip(number):
    return f"10.96.{number // 250}.{number % 250 + 1}"


def endpoint_ip(number, backends, i):
    at = number * backends + i
    return f"10.{128 + at // 62500}.{at // 250 % 250}.{at % 250 + 1}"


def _iptables_service(number, backends):
    service, ip = f"KUBE-SVC-{number:016X}", service_ip(number)
    lines = [f"-A {service} ! -s 10.128.0.0/9 -d {ip}/32 -p tcp -m comment --comment \"default/s{number} cluster IP\" -m tcp "
             "--dport 80 -j KUBE-MARK-MASQ"]
    for i in range(backends):
        endpoint = f"KUBE-SEP-{number:08X}{i:08X}"
        chance = f"-m statistic --mode random --probability {1 / (backends - i):.10f} " if i + 1 < backends else ""
        to = endpoint_ip(number, backends, i)
        lines += [f"-A {service} -m comment --comment \"default/s{number} -> {to}:8080\" {chance}-j {endpoint}",
                  f"-A {endpoint} -s {to}/32 -m comment --comment default/s{number} -j KUBE-MARK-MASQ",
                  f"-A {endpoint} -p tcp -m comment --comment default/s{number} -m tcp -j DNAT --to-destination {to}:8080"]
    return lines


def _iptables_chains(number, backends):
    return [f":KUBE-SVC-{number:016X} - [0:0]", *(f":KUBE-SEP-{number:08X}{i:08X} - [0:0]" for i in range(backends))]


def iptables(services, backends):
    """For iptables-restore."""
    chains = [":KUBE-SERVICES - [0:0]", ":KUBE-MARK-MASQ - [0:0]"]
    rules = ["-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
             "-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
             "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000"]
    for number in range(services):
        chains += _iptables_chains(number, backends)
        rules.append(f"-A KUBE-SERVICES -d {service_ip(number)}/32 -p tcp -m comment --comment \"default/s{number} cluster IP\" "
                     f"-m tcp --dport 80 -j KUBE-SVC-{number:016X}")
        rules += _iptables_service(number, backends)
    return "\n".join(["*nat", *chains, *rules, "COMMIT", ""])


def iptables_change(number, backends):
    """For iptables-restore --noflush: the chains of one Service, with one endpoint less, as a partial sync writes them."""
    return "\n".join(["*nat", *_iptables_chains(number, backends - 1), *_iptables_service(number, backends - 1), "COMMIT", ""])


def _nft_service(number, backends):
    spread = ", ".join(f"{i} : goto endpoint-{number}-{i}" for i in range(backends))
    lines = [f"add rule ip kube-proxy service-{number} ip daddr {service_ip(number)} tcp dport 80 ip saddr != 10.128.0.0/9 "
             "jump mark-for-masquerade",
             f"add rule ip kube-proxy service-{number} numgen random mod {backends} vmap {{ {spread} }}"]
    for i in range(backends):
        to = endpoint_ip(number, backends, i)
        lines += [f"add rule ip kube-proxy endpoint-{number}-{i} ip saddr {to} jump mark-for-masquerade",
                  f"add rule ip kube-proxy endpoint-{number}-{i} meta l4proto tcp dnat to {to}:8080"]
    return lines


def nft(services, backends):
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
        lines += [f"add chain ip kube-proxy endpoint-{number}-{i}" for i in range(backends)]
    for number in range(services):
        lines += _nft_service(number, backends)
        lines.append(f"add element ip kube-proxy service-ips {{ {service_ip(number)} . tcp . 80 : goto service-{number} }}")
    return "\n".join([*lines, ""])


def nft_change(number, backends):
    """For nft -f: one Service's chain anew, with one endpoint less."""
    return "\n".join([f"flush chain ip kube-proxy service-{number}", *_nft_service(number, backends - 1)[:2], ""])
