//! Contracts other than the user's.

use std::sync::Arc;

use model::Contract;
use serde_json::{Value, json};

/// An order: a text as key, a clustering field, and a field of each kind.
pub(crate) const ORDERS: &str = r#"syntax = "proto3";
package shop.v1;
import "affluent/options/v1/options.proto";
import "google/protobuf/timestamp.proto";

enum Status { OPEN = 0; PAID = 1; }

message Order {
  option (affluent.options.v1.record) = { resource: "orders" key: "customer_id" clustering: "order_id" };
  string customer_id = 1;
  int64 order_id = 2;
  double total = 3;
  Status status = 4;
  string email = 5 [(affluent.options.v1.rule) = { format: EMAIL personal: true }];
  map<string, int32> quantities = 6;
  repeated string tags = 7;
  bytes token = 8;
  optional google.protobuf.Timestamp shipped = 9;
  optional bool gift = 10;
}
"#;

/// A reading of a meter: an integer as key.
pub(crate) const READINGS: &str = r#"syntax = "proto3";
import "affluent/options/v1/options.proto";

message Reading {
  option (affluent.options.v1.record) = { resource: "readings" key: "meter" };
  int32 meter = 1;
  float value = 2;
}
"#;

/// The contract of [`ORDERS`].
pub(crate) fn orders() -> Arc<Contract> {
    Arc::new(Contract::from_source(ORDERS).unwrap())
}

/// The contract of [`READINGS`].
pub(crate) fn readings() -> Arc<Contract> {
    Arc::new(Contract::from_source(READINGS).unwrap())
}

/// A valid order.
pub(crate) fn order(customer: &str) -> Value {
    json!({
        "customer_id": customer,
        "order_id": "9007199254740993",
        "total": 12.5,
        "status": "PAID",
        "email": "zoe@example.com",
        "quantities": {"apples": 2, "pears": 1},
        "tags": ["fragile"],
        "token": "AAE=",
        "shipped": "2024-02-29T23:59:59.123Z",
        "gift": true,
    })
}

/// A valid order with another value of one field.
pub(crate) fn order_with(field: &str, value: Value) -> Value {
    let mut order = order("c-1");
    order[field] = value;
    order
}
