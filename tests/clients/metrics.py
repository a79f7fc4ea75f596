"""Reads the metrics with Prometheus' parser. Run by tests/clients/python.rs as `metrics.py HOST:PORT`."""

import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

(HOST,) = sys.argv[1:]

with urllib.request.urlopen(f"http://{HOST}/metrics", timeout=20) as response:
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4"), response.headers
    families = {family.name: family for family in text_string_to_metric_families(response.read().decode())}


def value(family, **labels):
    values = [s.value for s in families[family].samples if labels.items() <= s.labels.items()]
    assert len(values) == 1, (family, labels, families[family])
    return values[0]


assert all(family.type != "unknown" and family.documentation for family in families.values())
assert value("chat_sessions") == 2, families["chat_sessions"]
assert value("chat_rooms") == 1
assert value("chat_connections", protocol="websocket") == 2
assert value("chat_refused", code="empty_message") == 1
ticks = families["chat_tick_duration_seconds"]
assert ticks.type == "histogram"
buckets = [s.value for s in ticks.samples if s.name.endswith("_bucket")]
counts = [s.value for s in ticks.samples if s.name.endswith("_count")]
assert buckets == sorted(buckets) and [buckets[-1]] == counts and counts[0] > 0, ticks
print("all held")
