"""The EKS token check, as a control plane's webhook meets it."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from unittest import mock

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import Handle

from maip_lab.names import ACCESS_KEY, SECRET_KEY

CLUSTER = "maip-prod-dr-eks-cluster"


def token(cluster=CLUSTER, region="us-west-2", host=None, expires=60, key=ACCESS_KEY, secret=SECRET_KEY, session=None,
          signed=True, action="GetCallerIdentity"):  # fmt: skip
    url = f"https://{host or f'sts.{region}.amazonaws.com'}/?Action={action}&Version=2011-06-15"
    headers = {"x-k8s-aws-id": cluster} if signed else {}
    request = AWSRequest("GET", url, headers=headers)
    SigV4QueryAuth(Credentials(key, secret, session), "sts", region, expires=expires).add_auth(request)
    return "k8s-aws-v1." + base64.urlsafe_b64encode(request.url.encode()).decode().rstrip("=")


def review(lab: Handle, given, region="us-west-2"):
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": given}}
    answer = lab.control("POST", f"/token/{region}", body)
    assert answer["apiVersion"] == "authentication.k8s.io/v1" and answer["kind"] == "TokenReview"
    return answer["status"]


def test_a_good_token(lab: Handle):
    status = review(lab, token())
    assert status["authenticated"] is True
    assert (status["user"]["username"], status["user"]["groups"]) == ("maip-dr", ["maip-dr"])
    assert review(lab, token("maip-prod-eks-cluster", "us-east-1"), "us-east-1")["authenticated"]


def test_credentials_of_an_assumed_role(lab: Handle):
    role = lab.client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/dr", RoleSessionName="lab")
    keys = role["Credentials"]
    given = token(key=keys["AccessKeyId"], secret=keys["SecretAccessKey"], session=keys["SessionToken"])
    assert review(lab, given)["authenticated"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cluster": "maip-prod-eks-cluster"},
        {"host": "sts.amazonaws.com"},
        {"host": "127.0.0.1:4566"},
        {"host": "sts.us-east-1.amazonaws.com"},
        {"expires": 900},
        {"key": "AKIASTRANGER00000000"},
        {"secret": "not the secret"},
        {"signed": False},
        {"action": "GetSessionToken"},
    ],
)
def test_a_wrong_token(lab: Handle, wrong):
    status = review(lab, token(**wrong))
    assert status["authenticated"] is False and status["error"]


def test_garbage_and_age(lab: Handle):
    assert not review(lab, "lab-admin")["authenticated"]
    assert not review(lab, "k8s-aws-v1.!!!")["authenticated"]
    old = datetime.now(timezone.utc) - timedelta(minutes=16)
    with mock.patch("botocore.auth.get_current_datetime", return_value=old.replace(tzinfo=None)):
        stale = token()
    assert "fresh" in review(lab, stale)["error"]


def test_a_token_that_names_the_dead_regions_sts(lab: Handle):
    given = token(region="us-east-1")
    assert review(lab, given)["authenticated"]
    lab.fault(lab.EAST, "silent")
    assert not review(lab, given)["authenticated"]
    assert review(lab, token())["authenticated"]
