"""What AWS asks for, in dollars, us-east-1, on demand, first tier, no free tier: one table, each with where it was read.

Nothing here was checked against an account or AWS's own price list, which no network reached: read the row before you rely on it.
"""

from __future__ import annotations

from dataclasses import dataclass

LAMBDA = "cloudchipr.com/blog/aws-lambda-pricing, read 2026-11-26"
GATEWAY = "amnic.com/blogs/aws-api-gateway-pricing, read 2026-11-26"
FARGATE = "vantage.sh/blog/fargate-pricing, read 2026-11-26"
CACHE = "facts page: usage.ai on ElastiCache Serverless, June 2026"
MEMORY = "from memory"


@dataclass(frozen=True, slots=True)
class Rate:
    dollars: float
    per: str
    source: str


RATES = {
    "lambda arm64": Rate(0.0000133334, "GB-second", LAMBDA),
    "lambda x86_64": Rate(0.0000166667, "GB-second", LAMBDA),
    "lambda request": Rate(0.20e-6, "request", LAMBDA),
    "gateway request": Rate(3.50e-6, "REST request (a streamed answer: per 10 MB)", GATEWAY),
    "dynamodb write": Rate(0.625e-6, "write unit, 1 KB", MEMORY),
    "dynamodb read": Rate(0.125e-6, "read unit, 4 KB consistent or 8 KB not", MEMORY),
    "dynamodb stored": Rate(0.25, "GB-month", MEMORY),
    "dynamodb recovery": Rate(0.20, "GB-month of point-in-time recovery", MEMORY),
    "logs ingested": Rate(0.50, "GB", "go-cloud.io/aws-api-gateway-pricing, read 2026-11-26"),
    "logs stored": Rate(0.03, "GB-month, compressed", MEMORY),
    "metric": Rate(0.30, "custom metric-month, each name with each set of dimensions", MEMORY),
    "alarm": Rate(0.10, "alarm-month", MEMORY),
    "dashboard": Rate(3.00, "dashboard-month (the first three of an account are free)", MEMORY),
    "kms key": Rate(1.00, "key-month, and the same again for each of the first two rotations", MEMORY),
    "kms request": Rate(3e-6, "request", MEMORY),
    "valkey stored": Rate(0.084, "GB-hour, 0.1 GB at least", CACHE),
    "valkey unit": Rate(0.0023e-6, "ECPU, a command of at most 1 KB", CACHE),
    "transfer out": Rate(0.09, "GB to the internet", GATEWAY),
    "fargate cpu": Rate(0.03238, "vCPU-hour, arm64", FARGATE),
    "fargate memory": Rate(0.00356, "GB-hour, arm64", FARGATE),
    "address": Rate(0.005, "public IPv4 address-hour", MEMORY),
    "balancer": Rate(0.0225, "ALB-hour", MEMORY),
    "balancer unit": Rate(0.008, "LCU-hour: 25 new or 3,000 open connections, or 1 GB an hour", MEMORY),
    "nat": Rate(0.045, "NAT gateway-hour", "facts page: from memory there"),
    "nat transfer": Rate(0.045, "GB through a NAT gateway", "facts page: from memory there"),
    "postgres": Rate(0.065, "db.t4g.small-hour in two zones", MEMORY),
    "postgres stored": Rate(0.23, "GB-month in two zones", MEMORY),
    "redis": Rate(0.0128, "cache.t4g.micro node-hour, Valkey", MEMORY),
}

HOURS = 730
"""Of a month."""


def of(name: str) -> float:
    return RATES[name].dollars
