//! Records of another contract: orders with all types, several for each customer.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Contract;
use testkit::kafka_client::ProducerRecord;
use testkit::rows::RowId;
use testkit::service::ServiceOptions;
use uuid::Uuid;

use crate::support::test_env::TestEnv;

/// The contract. One name is a reserved word, one has an upper-case letter.
pub(crate) const ORDERS: &str = r#"
syntax = "proto3";
package shop.v1;
import "affluent/options/v1/options.proto";
import "google/protobuf/timestamp.proto";
enum Status { NEW = 0; PAID = 1; SHIPPED = 2; }
message Order {
  option (affluent.options.v1.record) = { resource: "orders" key: "customer_id" clustering: ["order_id"] };
  string note = 1;
  int64 customer_id = 2;
  string order_id = 3 [(affluent.options.v1.rule).format = UUID];
  Status status = 4;
  bool paid = 5;
  int32 items = 6;
  uint32 weight = 7;
  int64 cents = 8;
  float discount = 9;
  double Total = 10;
  bytes token = 11;
  google.protobuf.Timestamp placed_at = 12;
  repeated string select = 13;
  repeated double prices = 14;
  repeated google.protobuf.Timestamp events = 15;
  map<string, int32> quantities = 16;
  map<string, bytes> labels = 17;
  optional string gift = 18;
  optional bool express = 19;
  optional google.protobuf.Timestamp shipped_at = 20;
  string invoice = 21 [(affluent.options.v1.rule).format = UUID];
}
"#;

/// An environment whose streamers store orders.
pub(crate) struct OrdersEnv {
    pub(crate) env: TestEnv,
}

impl OrdersEnv {
    /// Creates an environment whose topic has `partitions` partitions.
    pub(crate) async fn new(name: &str, partitions: i32) -> Self {
        let contract = Arc::new(Contract::from_source(ORDERS).unwrap());
        let env = TestEnv::new(name, partitions).await;
        Self {
            env: env.for_record(contract, "created_orders"),
        }
    }

    /// Returns the options of a streamer.
    pub(crate) fn options(&self) -> ServiceOptions {
        self.options_of("orders", ORDERS)
    }

    /// Returns the options of a streamer with another contract, whose file has this name.
    pub(crate) fn options_of(&self, name: &str, proto: &str) -> ServiceOptions {
        let file = self.env.folder().join(format!("{name}.proto"));
        std::fs::write(&file, proto).unwrap();
        self.env.options().set("record.proto", file.display().to_string())
    }

    /// Writes records to the topic.
    pub(crate) async fn write(&self, records: &[ProducerRecord]) {
        self.env.kafka.write(&self.env.topic, records).await.unwrap();
    }

    /// Returns the ids of all rows.
    pub(crate) async fn ids(&self) -> Vec<String> {
        let rows = self.env.cassandra.rows().await.unwrap();
        rows.keys().map(ToString::to_string).collect()
    }

    /// Returns the write timestamps of all columns of all rows.
    pub(crate) async fn stamps(&self) -> BTreeMap<RowId, BTreeMap<String, i64>> {
        let rows = self.env.cassandra.stamped_rows().await.unwrap();
        rows.into_iter().map(|(id, row)| (id, row.stamps)).collect()
    }
}

/// An order of a customer, whose values depend on the version.
pub(crate) fn order(customer: i64, order: Uuid, version: usize) -> ProducerRecord {
    let lists = match version % 3 {
        0 => r#""select":[],"prices":[0.1,-2e-9],"#,
        1 => r#""select":["b","a"],"events":["2024-02-29T00:00:00.001Z"],"#,
        _ => "",
    };
    let maps = match version % 2 {
        0 => r#""quantities":{"z":1,"a":-1},"labels":{"é":"/+8=","e":""},"#,
        _ => r#""quantities":{},"#,
    };
    let optional = match version % 4 {
        0 => r#""gift":"ribbon","express":false,"#,
        1 => r#""shipped_at":"1969-12-31T23:59:59.999Z","#,
        _ => "",
    };
    let status = ["NEW", "PAID", "SHIPPED"][version % 3];
    let paid = version.is_multiple_of(2);
    let value = format!(
        r#"{{"customer_id":"{customer}","order_id":"{order}","note":"v{version}",{lists}{maps}{optional}"status":"{status}","paid":{paid},"items":{},"weight":{},"cents":"-9223372036854775808","discount":0.1,"Total":{version}.5e3,"token":"AAEC","placed_at":"2024-02-29T12:00:00+02:00","invoice":"{order}"}}"#,
        i32::MIN,
        u32::MAX,
    );
    ProducerRecord {
        key: Some(customer.to_string().into_bytes()),
        value: Some(value.into_bytes()),
        ..ProducerRecord::default()
    }
}

/// A record that deletes a customer.
pub(crate) fn deletion(customer: i64) -> ProducerRecord {
    ProducerRecord {
        key: Some(customer.to_string().into_bytes()),
        ..ProducerRecord::default()
    }
}

/// `count` orders of a customer, in order.
pub(crate) fn order_ids(count: usize) -> Vec<Uuid> {
    let mut ids: Vec<_> = (0..count).map(|_| Uuid::new_v4()).collect();
    ids.sort_by_key(Uuid::to_string);
    ids
}
