"""What every contender does with one card token: sign, call, parse, publish. Plain, and the least that is correct."""

import hashlib
import hmac
import json
import os
from typing import Any

STREAM = "token-records:default"
URL = os.environ.get("OPAY_BASE_URL", "") + "/api/v1/international/token/query"
_KEY = os.environ.get("OPAY_PRIVATE_KEY", "").encode()
_MERCHANT = os.environ.get("OPAY_MERCHANT_ID", "")
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "128"))


def signed(token: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the request for a token."""
    body = json.dumps({"opayToken": token}).encode()
    signature = hmac.new(_KEY, body, hashlib.sha512).hexdigest()
    headers = {"Authorization": f"Bearer {signature}", "MerchantId": _MERCHANT, "Content-Type": "application/json"}
    return body, headers


def fields(token: str, answer: dict[str, Any]) -> dict[str, str]:
    """The entry to publish for a provider's answer."""
    data = answer.get("data") or {}
    customer = data.get("customerInfo") or {}
    record = {
        "lookup_id": token,
        "provider": "opay",
        "status": "found" if data else "not_found",
        "token": {
            "value": data.get("opayToken"),
            "brand": str(data.get("brand", "")).lower(),
            "first6": data.get("firstSixDigits"),
            "last4": data.get("lastFourDigits"),
            "exp_month": data.get("expiryMonth"),
            "exp_year": data.get("expiryYear"),
            "customer": {"id": customer.get("customerId"), "name": customer.get("customerName")},
        },
    }
    return {"lookup_id": token, "status": str(record["status"]), "provider": "opay", "result": json.dumps(record)}
