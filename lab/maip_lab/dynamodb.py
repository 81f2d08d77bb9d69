"""DynamoDB: moto's tables, made into one global table where the topology says so."""

from __future__ import annotations

import json
import zlib
from typing import Any

from .http import Response
from .moto_bridge import Moto
from .names import REGIONS, TABLE, other
from .world import World

WRITES = ("PutItem", "UpdateItem", "DeleteItem")
TARGET = "DynamoDB_20120810."


class DynamoDb:
    def __init__(self, world: World, moto: Moto) -> None:
        self.world = world
        self.moto = moto
        self.clear()

    def clear(self) -> None:
        # What DescribeTable in the other Region says about the replica in this one.
        self.replica_status = dict.fromkeys(REGIONS, "ACTIVE")
        self.replicating = True

    def seed(self) -> None:
        for region in REGIONS:
            self.moto.call(
                "dynamodb",
                TARGET + "CreateTable",
                region,
                {
                    "TableName": TABLE,
                    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                    "BillingMode": "PAY_PER_REQUEST",
                },
            )

    def after_call(self, region: str, operation: str, p: dict[str, Any], response: Response) -> Response:
        """What moto leaves out of an answer, and what a write sets off."""
        if response.status != 200 or p.get("TableName") != TABLE:
            return response
        if operation == "DescribeTable":
            body = json.loads(response.body)
            self._add_replicas(region, body["Table"])
            response.body = json.dumps(body).encode()
            # DynamoDB's clients check this; moto's is of the body as it was.
            kept = {name: value for name, value in response.headers.items() if name.lower() != "x-amz-crc32"}
            response.headers = kept | {"x-amz-crc32": str(zlib.crc32(response.body))}
        elif operation in WRITES:
            key = {"pk": (p.get("Key") or p["Item"])["pk"]}
            self.world.after(self.world.settings.replication_s, lambda: self._replicate(region, key))
        return response

    def _add_replicas(self, region: str, table: dict[str, Any]) -> None:
        there = other(region)
        table["GlobalTableVersion"] = "2019.11.21"
        table["MultiRegionConsistency"] = "EVENTUAL"
        table["Replicas"] = [
            {
                "RegionName": there,
                "ReplicaStatus": self.replica_status[there],
                "ReplicaTableClassSummary": {"TableClass": "STANDARD"},
            }
        ]

    def _replicate(self, region: str, key: dict[str, Any]) -> None:
        if not self.replicating:
            return
        body = {"TableName": TABLE, "Key": key}
        item = self.moto.call("dynamodb", TARGET + "GetItem", region, body | {"ConsistentRead": True})
        there = other(region)
        if "Item" in item:
            written = {"TableName": TABLE, "Item": item["Item"]}
            self.moto.call("dynamodb", TARGET + "PutItem", there, written)
        else:
            self.moto.call("dynamodb", TARGET + "DeleteItem", there, body)
