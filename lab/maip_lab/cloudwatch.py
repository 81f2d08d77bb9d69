"""CloudWatch: series of our own, a datapoint a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from .errors import AwsError, Unsupported
from .names import REGIONS

MINUTE = 60
SEEDED_S = 15 * MINUTE


@dataclass
class Series:
    """What was measured: from each moment on a value, which may grow by so much a second."""

    namespace: str
    metric: str
    dimensions: dict[str, str]
    changes: list[tuple[float, float | None, float]] = field(default_factory=list)
    points: dict[int, float] = field(default_factory=dict)  # what PutMetricData brought

    def change(self, value: float | None, slope: float = 0.0, at: float | None = None) -> None:
        self.changes.append((time.time() if at is None else at, value, slope))

    def value(self, at: float) -> float | None:
        for since, value, slope in reversed(self.changes):
            if since <= at:
                return None if value is None else value + slope * (at - since)
        return None

    def between(self, start: float, end: float) -> Iterator[tuple[int, float]]:
        """A minute shows its last value, so that a change is seen at once and not a minute later."""
        latest = time.time()
        minute = int(-(-start // MINUTE) * MINUTE)
        while minute < end and minute <= latest:
            value = self.points.get(minute, self.value(min(minute + MINUTE - 1, latest)))
            if value is not None:
                yield minute, value
            minute += MINUTE


class CloudWatch:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.series: dict[str, list[Series]] = {region: [] for region in REGIONS}

    def find(self, region: str, namespace: str, metric: str, dimensions: dict[str, str]) -> Series | None:
        for series in self.series[region]:
            if (series.namespace, series.metric, series.dimensions) == (namespace, metric, dimensions):
                return series
        return None

    def seed(self, region: str, namespace: str, metric: str, dimensions: dict[str, str], value: float | None) -> Series:
        series = Series(namespace, metric, dimensions)
        series.change(value, at=time.time() - SEEDED_S)
        self.series[region].append(series)
        return series

    # -- the API ---------------------------------------------------------------------------------

    def GetMetricData(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        start, end = _epoch(p["StartTime"]), _epoch(p["EndTime"])
        newest_first = p.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        results = []
        for query in p["MetricDataQueries"]:
            if "MetricStat" not in query:
                raise Unsupported("GetMetricData with an expression")
            if query.get("ReturnData") is False:
                continue
            stat, metric = query["MetricStat"], query["MetricStat"]["Metric"]
            series = self.find(region, metric["Namespace"], metric["MetricName"], _dimensions(metric))
            buckets = _buckets(series, start, end, int(stat["Period"]))
            points = sorted(
                ((at, _statistic(stat["Stat"], values)) for at, values in buckets.items()),
                reverse=newest_first,
            )
            results.append(
                {
                    "Id": query["Id"],
                    "Label": query.get("Label", metric["MetricName"]),
                    "Timestamps": [datetime.fromtimestamp(at, timezone.utc) for at, _ in points],
                    "Values": [value for _, value in points],
                    "StatusCode": "Complete",
                }
            )
        return {"MetricDataResults": results, "Messages": []}

    def GetMetricStatistics(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        series = self.find(region, p["Namespace"], p["MetricName"], _dimensions(p))
        buckets = _buckets(series, _epoch(p["StartTime"]), _epoch(p["EndTime"]), int(p["Period"]))
        unit = "Milliseconds" if "Latency" in p["MetricName"] else "Seconds"
        return {
            "Label": p["MetricName"],
            "Datapoints": [
                {
                    "Timestamp": datetime.fromtimestamp(at, timezone.utc),
                    "Unit": unit,
                    **{name: _statistic(name, values) for name in p.get("Statistics", [])},
                }
                for at, values in sorted(buckets.items())
            ],
        }

    def ListMetrics(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        return {
            "Metrics": [
                {
                    "Namespace": series.namespace,
                    "MetricName": series.metric,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in series.dimensions.items()],
                }
                for series in self.series[region]
                if p.get("Namespace") in (None, series.namespace) and p.get("MetricName") in (None, series.metric)
            ]
        }

    def PutMetricData(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        for datum in p["MetricData"]:
            dimensions = _dimensions(datum)
            series = self.find(region, p["Namespace"], datum["MetricName"], dimensions)
            if series is None:
                series = Series(p["Namespace"], datum["MetricName"], dimensions)
                self.series[region].append(series)
            at = _epoch(datum["Timestamp"]) if "Timestamp" in datum else time.time()
            series.points[int(at // MINUTE * MINUTE)] = float(datum["Value"])
        return {}

    def DescribeAlarms(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        return {"MetricAlarms": [], "CompositeAlarms": []}


def _buckets(series: Series | None, start: float, end: float, period: int) -> dict[int, list[float]]:
    if period <= 0:
        raise AwsError("InvalidParameterValue", "The parameter Period must be a positive number.")
    if end <= start:
        raise AwsError("ValidationError", "The parameter StartTime must be less than the parameter EndTime.")
    buckets: dict[int, list[float]] = {}
    for at, value in series.between(start, end) if series else ():
        buckets.setdefault(at - at % max(period, MINUTE), []).append(value)
    return buckets


def _statistic(name: str, values: list[float]) -> float:
    if name == "Average":
        return sum(values) / len(values)
    if name == "Maximum":
        return max(values)
    if name == "Minimum":
        return min(values)
    if name == "Sum":
        return sum(values)
    if name == "SampleCount":
        return float(len(values))
    if name.startswith("p"):
        return sorted(values)[min(len(values) - 1, int(len(values) * float(name[1:]) / 100))]
    raise Unsupported(f"the statistic {name}")


def _dimensions(of: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in of.get("Dimensions", [])}


def _epoch(value: Any) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    if isinstance(value, (int, float)):
        return float(value)
    return _epoch(datetime.fromisoformat(str(value).replace("Z", "+00:00")))
