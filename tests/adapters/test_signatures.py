"""Signatures against what their makers published or their own SDKs gave for the same input and time (signatures.json)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from sluice import adapters
from sluice.adapters import _tc3
from sluice.adapters._sigv4 import Credentials, presigned, signed
from sluice.types import Channel, ChatRequest, Secret
from sluice.valkey_client import iam_token
from tests.iam_gate import official_token

VECTORS = json.loads(Path(__file__).with_name("signatures.json").read_text())
SIGV4 = VECTORS["sigv4"]


@pytest.mark.parametrize("row", SIGV4["rows"], ids=lambda row: str(row["name"]))
def test_sigv4_gives_the_published_signature(row: dict[str, Any]) -> None:
    credentials = Credentials(
        SIGV4["access_key"], SIGV4["secret_key"], SIGV4["session_token"] if row.get("session") else ""
    )
    out = signed(
        row["method"],
        f"https://example.amazonaws.com{row['path']}",
        row.get("headers", {}),
        row.get("body", "").encode(),
        credentials=credentials,
        region="us-east-1",
        service="service",
        now=SIGV4["now"],
    )
    assert out["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={row['signed']}, Signature={row['signature']}"
    )


SEGMENTS = st.text("abcXYZ019-_.~:/%$+ =&é", min_size=1, max_size=30).filter(
    lambda text: text not in (".", "..")  # a path of these is another path
)


@given(
    model=SEGMENTS, body=st.binary(max_size=50), now=st.integers(0, 4_000_000_000), token=st.sampled_from(["", "tok=="])
)
def test_sigv4_signs_as_botocore_does(model: str, body: bytes, now: int, token: str) -> None:
    url = f"https://bedrock-runtime.eu-west-1.amazonaws.com/model/{quote(model, safe='')}/converse"
    headers = {"content-type": "application/json"}
    ours = signed(
        "POST",
        url,
        headers,
        body,
        credentials=Credentials("AKIDEXAMPLE", "sEcReT/+=", token),
        region="eu-west-1",
        service="bedrock",
        now=now,
    )
    theirs = _botocore(url, headers, body, now, token)
    assert ours["authorization"] == theirs


@given(
    cache=st.text("abcxyz019-", min_size=1, max_size=40),
    user=st.text("abcXYZ019-.", min_size=1, max_size=40),
    region=st.sampled_from(["us-east-1", "cn-north-1"]),
    now=st.integers(0, 4_000_000_000),
    token=st.sampled_from(["", "IQoJb3JpZ2luX2VjE+/=="]),
)
def test_a_token_for_elasticache_is_the_one_botocore_presigns(
    cache: str, user: str, region: str, now: int, token: str
) -> None:
    credentials = Credentials("AKIDEXAMPLE", "sEcReT/+=", token)
    ours = iam_token(cache, user, region, credentials, now)
    assert ours == official_token(cache, user, region, credentials, now)
    assert ours.startswith(f"{cache}/?Action=connect&User={user}&ResourceType=ServerlessCache&X-Amz-Algorithm=")


def test_a_token_for_elasticache_is_the_one_aws_sdk_for_java_signs() -> None:
    """As published, with its input, in the tests of an application that signs with it (fi.okm.jod.yksilo)."""
    now = datetime(2024, 8, 2, 12, 11, 50, tzinfo=UTC).timestamp()
    token = iam_token("my-cache", "user123", "eu-west-1", Credentials("accessKey", "secretKey"), now)
    assert token.endswith("&X-Amz-Signature=5dda5db919b1337db6596b2a608924bc10197fb39289b933b60bdb114d5a70dc")


@given(
    path=SEGMENTS,
    query=st.dictionaries(SEGMENTS, st.text("abcXYZ019-_.~:/%$+ =&é", max_size=30), max_size=4),
    now=st.integers(0, 4_000_000_000),
    seconds=st.integers(1, 604_800),
)
def test_a_presigned_address_is_signed_as_botocore_signs_it(
    path: str, query: dict[str, str], now: int, seconds: int
) -> None:
    url = f"https://example.amazonaws.com/{quote(path, safe='')}?{urlencode(query, quote_via=quote)}"
    credentials = Credentials("AKIDEXAMPLE", "sEcReT/+=", "tok==")
    ours = presigned(url, credentials=credentials, region="eu-west-1", service="service", now=now, seconds=seconds)
    signer = SigV4QueryAuth(BotocoreCredentials("AKIDEXAMPLE", "sEcReT/+=", "tok=="), "service", "eu-west-1", seconds)
    request = AWSRequest("GET", url)
    request.context["timestamp"] = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(to_sign, request))
    assert ours == request.url


def _botocore(url: str, headers: dict[str, str], body: bytes, now: int, token: str) -> str:
    """botocore's signature at a time of ours: it asks its own clock, so that the two steps are called past it."""
    signer = SigV4Auth(BotocoreCredentials("AKIDEXAMPLE", "sEcReT/+=", token or None), "bedrock", "eu-west-1")
    request = AWSRequest("POST", url, data=body, headers=headers)
    at = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = at
    signer._modify_request_before_signing(request)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(to_sign, request))
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("row", VECTORS["tc3"]["rows"], ids=lambda row: str(row["scope"]))
def test_tc3_gives_the_published_signature_and_its_sdks(row: dict[str, Any]) -> None:
    names = ("host", "content_type", "service", "secret_id", "secret_key", "now")
    told = _tc3.authorization(row["body"].encode(), **{name: row[name] for name in names})
    assert told == (
        f"TC3-HMAC-SHA256 Credential={row['secret_id']}/{row['scope']}, "
        f"SignedHeaders=content-type;host, Signature={row['signature']}"
    )


@pytest.mark.parametrize("row", VECTORS["spark"]["rows"], ids=lambda row: str(row["now"]))
def test_sparks_address_is_the_one_its_sdk_makes(row: dict[str, Any]) -> None:
    secret = Secret(f"app:{VECTORS['spark']['api_key']}:{VECTORS['spark']['api_secret']}")
    channel = Channel("c", "spark_ws", "c", (row["model"],), secret=secret)
    chat = ChatRequest(row["model"], {"messages": [{"role": "user", "content": "Hi"}]})
    assert adapters.load("spark_ws").adapter(row["now"]).request(chat, channel).url == row["url"]
